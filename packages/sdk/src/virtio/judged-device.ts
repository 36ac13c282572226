import { DeviceFault, type IoWidth } from "@northbridge/core/contracts";
import type { FeatureSet } from "./feature-set.ts";
import type { VirtioDevice, VirtioSession } from "./virtio-device.ts";

/** A device whose author may not have had a compiler. */
interface UntrustedDevice extends Omit<VirtioDevice, "notify" | "start"> {
  notify(queue: number): unknown;
  start(session: VirtioSession): unknown;
}

/**
 * A virtio device as who carries it calls it: what it throws is a `DeviceFault` with its name and what was asked of it,
 * and so is a promise where none may be. Of calls that may take time the promise rejects with such a fault.
 */
export class JudgedDevice {
  readonly #name: string;
  readonly #device: UntrustedDevice;

  /** @param name for messages */
  constructor(name: string, device: VirtioDevice) {
    this.#name = name;
    this.#device = device;
  }

  notify(queue: number): void {
    let answer: unknown;
    try {
      answer = this.#device.notify(queue);
    } catch (error) {
      throw this.#fault(`notify of queue ${queue}`, error);
    }
    if (answer instanceof Promise) throw this.#promised(`notify of queue ${queue}`, answer);
  }

  start(session: VirtioSession): void {
    this.#atOnce("start", () => this.#device.start(session));
  }

  acceptFeatures(features: FeatureSet): boolean {
    return this.#atOnce("acceptFeatures", () => this.#device.acceptFeatures?.(features) ?? true);
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    let answer: unknown;
    try {
      answer = this.#device.writeConfig?.(offset, width, value);
    } catch (error) {
      throw this.#fault(writing(offset), error);
    }
    if (answer instanceof Promise) throw this.#promised(writing(offset), answer);
  }

  useQueues(inUse: readonly boolean[]): void {
    this.#atOnce("useQueues", () => this.#device.useQueues?.(inUse));
  }

  resume(): void {
    this.#atOnce("resume", () => this.#device.resume?.());
  }

  reset(): void | Promise<void> {
    return this.#inTime("reset", () => this.#device.reset());
  }

  resetQueue(queue: number): void | Promise<void> {
    return this.#inTime(`resetQueue of queue ${queue}`, () => this.#device.resetQueue?.(queue));
  }

  pause(): void | Promise<void> {
    return this.#inTime("pause", () => this.#device.pause?.());
  }

  #atOnce<T>(what: string, call: () => T): T {
    const answer = this.#call(what, call);
    if (answer instanceof Promise) throw this.#promised(what, answer);
    return answer;
  }

  #inTime(what: string, call: () => void | Promise<void>): void | Promise<void> {
    const answer: unknown = this.#call(what, call);
    if (!(answer instanceof Promise)) return undefined; // whatever else it gave
    return answer.then(
      () => undefined,
      (error: unknown) => {
        throw this.#fault(what, error);
      },
    );
  }

  #call<T>(what: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw this.#fault(what, error);
    }
  }

  /** What becomes of the promise is nobody's any more. */
  #promised(what: string, answer: Promise<unknown>): DeviceFault {
    answer.catch(() => undefined);
    return this.#fault(
      what,
      "gave a promise; it is synchronous: keep the request, and push it when it is done",
    );
  }

  #fault(what: string, cause: unknown): DeviceFault {
    if (cause instanceof DeviceFault) return cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new DeviceFault(this.#name, `${what}: ${reason}`, [], { cause });
  }
}

const writing = (offset: number): string => `writeConfig at 0x${offset.toString(16)}`;
