import { byteArraysIn, describeArgument, hexOf } from "./plain-data.ts";
import { digestOf, type ServiceOutcome } from "./trace-record.ts";
import type { TraceWriter } from "./trace-writer.ts";

/** What a tap needs of its recorder. */
export interface TapOptions {
  readonly writer: TraceWriter;
  /** Before the device hears of something. */
  readonly onEnter: () => void;
}

type Method = (...args: readonly unknown[]) => unknown;
type Callable = (this: unknown, ...args: unknown[]) => unknown;

/**
 * Writes down what a device says to the services of its machine (consoles, disks, links, entropy) and what they answer,
 * at once, by promise or by callback. Works for any service whose arguments are data, byte arrays and functions.
 */
export class ServiceTap {
  readonly #writer: TraceWriter;
  readonly #onEnter: () => void;
  readonly #numbers = new WeakMap<object, number>();
  readonly #callbacks = new WeakMap<object, Callable>();
  readonly #proxies = new WeakMap<object, object>();
  readonly #names = new WeakMap<object, string>();
  #numbered = 0;
  #services = 0;
  #promises = 0;
  #lastTurn: Promise<void> = Promise.resolve();

  constructor({ writer, onEnter }: TapOptions) {
    this.#writer = writer;
    this.#onEnter = onEnter;
  }

  /** The service as the device sees it. */
  tap<T>(name: string, service: T): T {
    if (typeof service !== "object" || service === null) return service;
    const known = this.#proxies.get(service);
    if (known !== undefined) return known as T;
    const proxy = new Proxy(service, {
      get: (target, key): unknown => {
        const value: unknown = Reflect.get(target, key, target);
        // What a guest does to memory that is a file is no call: a device under record has copies.
        if (key === "mapUnder") return undefined;
        // A promise looks whether what it is given is one too.
        if (typeof key === "symbol" || (key === "then" && value === undefined)) return value;
        if (typeof value === "function") return this.#method(name, key, target, value as Callable);
        const outcome = this.#outcomeOf(name, key, value);
        this.#writer.rare({
          kind: "call",
          service: name,
          method: key,
          args: null,
          outcome: outcome.recorded,
        });
        return outcome.given;
      },
    });
    this.#proxies.set(service, proxy);
    this.#names.set(service, name);
    return proxy;
  }

  #method(service: string, method: string, target: object, call: Callable): Method {
    return (...args) => {
      const described = args.map((arg) => describeArgument(arg, (object) => this.#number(object)));
      const arrays = byteArraysIn(args);
      const before = arrays.map(digestOf);
      const filled = (): Pick<ServiceOutcome, "filled"> => {
        const changed = arrays.flatMap((bytes, at) =>
          digestOf(bytes) === before[at] ? [] : [[at, hexOf(bytes)] as const],
        );
        return changed.length === 0 ? {} : { filled: Object.fromEntries(changed) };
      };
      const wrapped = args.map((arg) => (typeof arg === "function" ? this.#callback(arg as Callable) : arg));
      let result: unknown;
      const write = (outcome?: ServiceOutcome): void => {
        this.#writer.rare({ kind: "call", service, method, args: described, ...(outcome && { outcome }) });
      };
      try {
        result = call.call(target, ...wrapped);
      } catch (error) {
        write({ error: messageOf(error), ...filled() });
        throw error;
      }
      if (!(result instanceof Promise)) {
        const { recorded, given } = this.#outcomeOf(service, method, result);
        write({ ...recorded, ...filled() });
        return given;
      }
      write();
      return this.#settling(service, method, result as Promise<unknown>, this.#promises++, filled);
    };
  }

  /** Ends once the device has done what it does on hearing of the promise before: a replay keeps them one by one. */
  #turn(): Promise<void> {
    const turn = this.#lastTurn;
    this.#lastTurn = turn.then(afterTheDevice);
    return turn;
  }

  /** A promise of which the device hears after it is written down. */
  async #settling(
    service: string,
    method: string,
    promise: Promise<unknown>,
    number: number,
    filled: () => Pick<ServiceOutcome, "filled">,
  ): Promise<unknown> {
    let outcome: { readonly recorded: ServiceOutcome; readonly given: unknown };
    try {
      const value = await promise;
      await this.#turn();
      outcome = this.#outcomeOf(service, method, value);
    } catch (error) {
      await this.#turn();
      this.#writer.settled(number, { error: messageOf(error), ...filled() });
      this.#onEnter();
      throw error;
    }
    this.#writer.settled(number, { ...outcome.recorded, ...filled() });
    this.#onEnter();
    return outcome.given;
  }

  /** A function of the device that a service calls. */
  #callback(inner: Callable): Callable {
    const known = this.#callbacks.get(inner);
    if (known !== undefined) return known;
    const number = this.#number(inner);
    const writer = this.#writer;
    const onEnter = this.#onEnter;
    const describe = (value: unknown): unknown =>
      describeArgument(value, (object) => this.#number(object), Infinity);
    const callback: Callable = function (...args) {
      writer.beginCallback(number, args.map(describe));
      onEnter();
      let result: unknown;
      try {
        result = inner.call(this, ...args);
      } catch (error) {
        writer.thrown(error);
        throw error;
      }
      writer.endCallback(describe(result));
      return result;
    };
    this.#callbacks.set(inner, callback);
    return callback;
  }

  /** What a trace says of a result, and what the device gets: objects with methods are services themselves. */
  #outcomeOf(
    service: string,
    method: string,
    value: unknown,
  ): { readonly recorded: ServiceOutcome; readonly given: unknown } {
    if (value === undefined) return { recorded: {}, given: value };
    if (!isService(value)) {
      return {
        recorded: { result: describeArgument(value, (object) => this.#number(object), Infinity) },
        given: value,
      };
    }
    const name = this.#names.get(value) ?? `${service}.${method}#${this.#services++}`;
    return { recorded: { result: { $service: name } }, given: this.tap(name, value) };
  }

  #number(object: object): number {
    let number = this.#numbers.get(object);
    if (number === undefined) {
      number = this.#numbered++;
      this.#numbers.set(object, number);
    }
    return number;
  }
}

/** Awaits of a device from one of its host's promises to the next. */
const MOST_AWAITS = 16;

async function afterTheDevice(): Promise<void> {
  for (let i = 0; i < MOST_AWAITS; i++) await Promise.resolve();
}

function isService(value: unknown): value is object {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || Array.isArray(value))
    return false;
  return (
    Object.getPrototypeOf(value) !== Object.prototype ||
    Object.values(value).some((member) => typeof member === "function")
  );
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
