import { type Clock, type Device, DeviceFault, NorthbridgeError, whatJsonDrops } from "../contracts/index.ts";
import type { Guard } from "./guarded-ends.ts";

/** What a device's own code threw, with the device and what it was doing in front. */
function deviceFault(device: string, what: string, error: unknown): NorthbridgeError {
  if (error instanceof DeviceFault) return error;
  const reason = `${what}: ${error instanceof Error ? error.message : String(error)}`;
  return error instanceof NorthbridgeError
    ? new NorthbridgeError(error.code, `device ${device}: ${reason}`, { cause: error })
    : new DeviceFault(device, reason, [], { cause: error });
}

/** What `setup` threw: what it refuses, as it is, or a fault of its own. */
export const setupFault = (device: string, error: unknown): NorthbridgeError =>
  error instanceof NorthbridgeError ? error : deviceFault(device, "setup", error);

/**
 * Every call of a device: whether it may be async, whether what it gives goes into a snapshot, and whether what it
 * throws is named: answers to a person speak for themselves.
 */
const CALLS: Readonly<Record<keyof Device, "at once" | "state" | "may be async" | "as it is">> = {
  reset: "at once",
  save: "state",
  restore: "at once",
  pause: "may be async",
  resume: "at once",
  stats: "at once",
  monitorCommand: "as it is",
};

type Call = (...args: readonly unknown[]) => unknown;

/**
 * The device as the machine uses it: what any of its calls throws says whose it is.
 * @param run runs a call of it
 */
export function guardedDevice(
  device: Device,
  id: string,
  run: (call: () => unknown) => unknown = (call) => call(),
): Device {
  const calls = device as Partial<Record<keyof Device, Call>>;
  const guarded: Partial<Record<keyof Device, Call>> = {};
  for (const [name, how] of Object.entries(CALLS) as [keyof Device, (typeof CALLS)[keyof Device]][]) {
    const own = calls[name]?.bind(device);
    if (own === undefined) continue;
    const call: Call = (...args) => run(() => own(...args));
    const fault = (error: unknown): NorthbridgeError => deviceFault(id, name, error);
    if (name === "save" && calls.restore === undefined) {
      guarded.save = () => {
        throw fault(new TypeError("there is no restore that would take it"));
      };
      continue;
    }
    guarded[name] = how === "as it is" ? call : named(CHECKS[how](call), fault);
  }
  return guarded as Device;
}

/** Nobody waits for these: what comes later is no answer. */
const atOnce =
  (call: Call): Call =>
  (...args) => {
    const result = call(...args);
    if (!(result instanceof Promise)) return result;
    result.catch(() => undefined);
    throw new TypeError("gave a promise; only pause may be async");
  };

/** A snapshot is JSON: what that does not hold would be restored as something else. */
const asState =
  (call: Call): Call =>
  (...args) => {
    const state = atOnce(call)(...args);
    if (state === undefined) throw new TypeError("gave nothing that could be restored");
    const problem = whatJsonDrops(state);
    if (problem !== undefined) throw new TypeError(`expected a state that JSON holds, found that ${problem}`);
    return state;
  };

const CHECKS = { "at once": atOnce, state: asState, "may be async": (call: Call): Call => call };

const named =
  (call: Call, fault: (error: unknown) => NorthbridgeError): Call =>
  (...args) => {
    try {
      const result = call(...args);
      if (!(result instanceof Promise)) return result;
      return result.catch((error: unknown) => {
        throw fault(error);
      });
    } catch (error) {
      throw fault(error);
    }
  };

/** A guard of the device's callbacks: what they throw, or reject with where they are async, goes to `onFault`. */
export function guardOf(device: string, onFault: (fault: NorthbridgeError) => void): Guard {
  return (what, callback, instead) =>
    (...args) => {
      try {
        const result = callback(...args);
        if (!(result instanceof Promise)) return result;
        result.catch((error: unknown) => {
          onFault(deviceFault(device, what, error));
        });
      } catch (error) {
        onFault(deviceFault(device, what, error));
      }
      return instead;
    };
}

/** The machine's clock as a device sees it: what its timers throw never reaches who drives the clock. */
export class GuardedClock implements Clock {
  readonly #clock: Clock;
  readonly #guard: Guard;

  constructor(clock: Clock, guard: Guard) {
    this.#clock = clock;
    this.#guard = guard;
  }

  get kind(): Clock["kind"] {
    return this.#clock.kind;
  }

  get epochMs(): number {
    return this.#clock.epochMs;
  }

  nowNs(): number {
    return this.#clock.nowNs();
  }

  createTimer(callback: () => void): ReturnType<Clock["createTimer"]> {
    return this.#clock.createTimer(this.#guard("a timer", callback, undefined));
  }
}
