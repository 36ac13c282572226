import { byteArraysIn, bytesOf, describeArgument, revive } from "./plain-data.ts";
import type { ReplayCursor } from "./replay-cursor.ts";
import type { ServiceOutcome } from "./trace-record.ts";

type Callable = (...args: unknown[]) => unknown;

interface Pending {
  readonly service: string;
  readonly arrays: readonly Uint8Array[];
  readonly settlers: PromiseWithResolvers<unknown>;
}

/** Services of a replay: they answer what the recorded ones answered. */
export class ReplayServices {
  readonly #cursor: ReplayCursor;
  readonly #numbers = new Map<object, number>();
  readonly #byNumber: object[] = [];
  readonly #promises: Pending[] = [];
  readonly #proxies = new Map<string, object>();

  readonly #onCallback: () => void;

  /** @param onCallback takes the entry that comes now: a service called back before it returned */
  constructor(cursor: ReplayCursor, onCallback: () => void) {
    this.#cursor = cursor;
    this.#onCallback = onCallback;
  }

  /** Stands in for the service of that name. */
  service(name: string): object {
    const known = this.#proxies.get(name);
    if (known !== undefined) return known;
    const proxy = new Proxy(
      {},
      {
        get: (_target, key): unknown => {
          if (typeof key === "symbol" || key === "then") return undefined;
          this.#cursor.takeInputs();
          const record = this.#cursor.record;
          const isProperty =
            record?.kind === "call" &&
            record.service === name &&
            record.method === key &&
            record.args === null;
          if (!isProperty) return (...args: readonly unknown[]) => this.#call(name, key, args);
          this.#cursor.advance();
          return this.#result(record.outcome ?? {}, []);
        },
      },
    );
    this.#proxies.set(name, proxy);
    return proxy;
  }

  /** What a service called, by its number in the trace. */
  callback(number: number): Callable | undefined {
    const callback = this.#byNumber[number];
    return typeof callback === "function" ? (callback as Callable) : undefined;
  }

  /** Keeps the promise of that call. */
  settle(call: number, outcome: ServiceOutcome): void {
    const pending = this.#promises[call];
    if (pending === undefined) {
      this.#cursor.fail("the device has made no such call");
      return;
    }
    try {
      pending.settlers.resolve(this.#result(outcome, pending.arrays));
    } catch (error) {
      pending.settlers.reject(error);
    }
  }

  /** How a trace writes what a callback returned. */
  describe(value: unknown): unknown {
    return describeArgument(value, (object) => this.#number(object), Infinity);
  }

  #call(service: string, method: string, args: readonly unknown[]): unknown {
    const described = args.map((arg) => describeArgument(arg, (object) => this.#number(object)));
    const text = JSON.stringify(described);
    this.#cursor.takeInputs();
    while (this.#cursor.record?.kind === "callback") {
      this.#onCallback();
      this.#cursor.takeInputs();
    }
    const record = this.#cursor.output(
      { kind: "call", service, method, args: described },
      (expected) =>
        expected.service === service && expected.method === method && JSON.stringify(expected.args) === text,
    );
    const arrays = byteArraysIn(args);
    if (record?.outcome !== undefined) return this.#result(record.outcome, arrays);
    const settlers = Promise.withResolvers<unknown>();
    // A device may leave it alone.
    settlers.promise.catch(() => undefined);
    if (record !== undefined) this.#promises.push({ service, arrays, settlers });
    return settlers.promise;
  }

  #result({ result, error, filled }: ServiceOutcome, arrays: readonly Uint8Array[]): unknown {
    for (const [at, content] of Object.entries(filled ?? {})) arrays[Number(at)]?.set(bytesOf(content));
    if (error !== undefined) throw new Error(error);
    if (typeof result === "object" && result !== null && "$service" in result)
      return this.service(String(result.$service));
    return revive(result);
  }

  #number(object: object): number {
    let number = this.#numbers.get(object);
    if (number === undefined) {
      number = this.#byNumber.push(object) - 1;
      this.#numbers.set(object, number);
    }
    return number;
  }
}
