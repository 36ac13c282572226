import type { BusAccess, BusShortcuts, IoWidth } from "../contracts/index.ts";

const ALL_ONES = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff } as const;

/**
 * A bus as a backend sees it: a device that breaks its contract is reported, and its access reads as ones. Nothing
 * unwinds through a backend.
 */
export class GuardedBus implements BusAccess {
  readonly #bus: BusAccess;
  readonly #onFault: (fault: unknown) => void;

  constructor(bus: BusAccess, onFault: (fault: unknown) => void) {
    this.#bus = bus;
    this.#onFault = onFault;
  }

  read(address: number, width: IoWidth): number {
    try {
      return this.#bus.read(address, width);
    } catch (fault) {
      this.#onFault(fault);
      return ALL_ONES[width];
    }
  }

  write(address: number, width: IoWidth, value: number): void {
    try {
      this.#bus.write(address, width, value);
    } catch (fault) {
      this.#onFault(fault);
    }
  }
}

/** What a backend takes over, as a bus uses it: a device whose doorbell throws is reported, and the backend goes on. */
export function guardedShortcuts(inner: BusShortcuts, onFault: (fault: unknown) => void): BusShortcuts {
  return {
    doorbell: (address, bell, ring) =>
      inner.doorbell?.(address, bell, () => {
        try {
          ring();
        } catch (fault) {
          onFault(fault);
        }
      }),
    posted: (address, length) => inner.posted?.(address, length),
    onVcpus: (address, length, source) => inner.onVcpus?.(address, length, source),
  };
}
