import { type BusAccess, NorthbridgeError } from "@northbridge/core/contracts";
import type { PciBus, PciSlot } from "../pci/pci-bus.ts";
import type { PciFunction } from "../pci/pci-function.ts";
import { Bar, BAR_COUNT, Command, Reg } from "../pci/spec.ts";

/** What enumeration found out about one BAR. */
export interface EnumeratedBar {
  readonly index: number;
  readonly kind: "memory32" | "memory64" | "io";
  /** Where it answers now: an address, or a port. */
  readonly base: number;
  readonly length: number;
  /** The bus that it answers on. */
  readonly bus: BusAccess;
}

/** A function as a guest's firmware leaves it. */
export interface EnumeratedFunction {
  readonly slot: PciSlot;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly bars: readonly EnumeratedBar[];
  readonly fn: PciFunction;
}

const MEMORY_BASE = 0xc000_0000;
const PORT_BASE = 0xc000;
/** GSI of INTA of slot 0, as in `pc-1`. */
const GSI_BASE = 16;
const SLOTS = 32;

/** A PCI bus with just enough of a root for tests, and the firmware that gives its BARs addresses. */
export class BenchPciBus implements PciBus {
  readonly #functions: { readonly slot: PciSlot; readonly fn: PciFunction }[] = [];
  readonly #buses: { readonly mmio: BusAccess; readonly ports: BusAccess };
  /** Where each BAR was put the first time. */
  readonly #places = new Map<string, number>();
  #memory = MEMORY_BASE;
  #port = PORT_BASE;

  constructor(buses: { readonly mmio: BusAccess; readonly ports: BusAccess }) {
    this.#buses = buses;
  }

  attach(fn: PciFunction, wanted: Partial<PciSlot> = {}): PciSlot {
    const device = wanted.device ?? this.#lowestFree();
    const slot = { device, function: wanted.function ?? 0 };
    const other = this.#functions.find(
      ({ slot: taken }) => taken.device === device && taken.function === slot.function,
    );
    if (other !== undefined || device >= SLOTS) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${fn.name}: PCI slot ${device}.${slot.function} is taken or not there`,
      );
    }
    this.#functions.push({ slot, fn });
    fn.connect(fn.interruptPin === 0 ? undefined : GSI_BASE + ((device + fn.interruptPin - 1) % 4));
    return slot;
  }

  get functions(): readonly PciFunction[] {
    return this.#functions.map(({ fn }) => fn);
  }

  /** Sizes every BAR, gives it an address (the same each time) and turns decoding and bus mastering on (PCI 3.0 §6.2.5.1). */
  enumerate(): readonly EnumeratedFunction[] {
    return this.#functions.map(({ slot, fn }) => {
      const bars = this.#placeBars(fn);
      fn.configWrite(Reg.COMMAND, 2, Command.IO | Command.MEMORY | Command.MASTER);
      return {
        slot,
        vendorId: fn.configRead(Reg.VENDOR_ID, 2),
        deviceId: fn.configRead(Reg.DEVICE_ID, 2),
        bars,
        fn,
      };
    });
  }

  #placeBars(fn: PciFunction): readonly EnumeratedBar[] {
    const bars: EnumeratedBar[] = [];
    fn.configWrite(Reg.COMMAND, 2, 0);
    for (let index = 0; index < BAR_COUNT; index++) {
      const offset = Reg.BAR0 + 4 * index;
      fn.configWrite(offset, 4, 0xffff_ffff);
      const mask = fn.configRead(offset, 4);
      if (mask === 0) continue;
      if ((mask & Bar.IO) !== 0) {
        const length = (~(mask & ~Bar.IO_FLAGS) & 0xffff) + 1;
        const base = this.#place(
          fn,
          index,
          () => (this.#port = alignUp(this.#port, length) + length) - length,
        );
        fn.configWrite(offset, 4, base);
        bars.push({ index, kind: "io", base, length, bus: this.#buses.ports });
        continue;
      }
      const is64 = (mask & Bar.MEMORY_64) !== 0;
      const length = (~(mask & ~Bar.MEMORY_FLAGS) >>> 0) + 1;
      const base = this.#place(
        fn,
        index,
        () => (this.#memory = alignUp(this.#memory, length) + length) - length,
      );
      fn.configWrite(offset, 4, base);
      if (is64) fn.configWrite(offset + 4, 4, 0);
      bars.push({ index, kind: is64 ? "memory64" : "memory32", base, length, bus: this.#buses.mmio });
      if (is64) index++;
    }
    return bars;
  }

  #place(fn: PciFunction, index: number, allocate: () => number): number {
    const key = `${this.#functions.findIndex((entry) => entry.fn === fn)} ${index}`;
    const base = this.#places.get(key) ?? allocate();
    this.#places.set(key, base);
    return base;
  }

  #lowestFree(): number {
    let device = 0;
    while (this.#functions.some(({ slot }) => slot.device === device)) device++;
    return device;
  }
}

const alignUp = (value: number, to: number): number => Math.ceil(value / to) * to;
