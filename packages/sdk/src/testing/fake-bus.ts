import {
  accessInWords,
  badAnswer,
  type Bus,
  type BusAccess,
  DeviceFault,
  type IoHandler,
  type IoRegion,
  type IoWidth,
  isAnswer,
  NorthbridgeError,
  type Unmap,
  type UntrustedHandler,
} from "@northbridge/core/contracts";

/**
 * An address space of handlers, as a guest sees one: unclaimed bytes read as ones, wide accesses split where a region
 * ends. Throws `DeviceFault`, as a machine's does, for an answer that is no value of a register and for a promise; what
 * a handler throws is thrown as it is.
 */
export class FakeBus implements Bus {
  readonly #mapped: MappedHandler[] = [];
  readonly unclaimed: { reads: number; writes: number } = { reads: 0, writes: 0 };

  get regions(): readonly IoRegion[] {
    return this.#mapped.map((entry) => entry.region);
  }

  map(region: IoRegion, handler: IoHandler): Unmap {
    for (const { region: other } of this.#mapped) {
      if (region.base < other.base + other.length && other.base < region.base + region.length) {
        throw new NorthbridgeError("NB_REGION_OVERLAP", `${describe(region)} overlaps ${describe(other)}`);
      }
    }
    const entry = { region, handler };
    this.#mapped.push(entry);
    return () => {
      const at = this.#mapped.indexOf(entry);
      if (at >= 0) this.#mapped.splice(at, 1);
    };
  }

  read(address: number, width: IoWidth): number {
    const entry = this.#at(address);
    if (entry !== undefined && fits(entry.region, address, width)) {
      const offset = address - entry.region.base;
      const value = entry.handler.read(offset, width);
      if (!isAnswer(value, width)) throw faultOf(entry.region, offset, width, value);
      return value;
    }
    if (width === 1) {
      this.unclaimed.reads++;
      return 0xff;
    }
    const half = (width / 2) as 1 | 2;
    const low = this.read(address, half);
    return low + this.read(address + half, half) * 2 ** (8 * half);
  }

  write(address: number, width: IoWidth, value: number): void {
    const entry = this.#at(address);
    if (entry !== undefined && fits(entry.region, address, width)) {
      const offset = address - entry.region.base;
      const result = entry.handler.write(offset, width, value);
      if (result instanceof Promise) throw faultOf(entry.region, offset, -width, result);
      return;
    }
    if (width === 1) {
      this.unclaimed.writes++;
      return;
    }
    const half = (width / 2) as 1 | 2;
    const mask = half === 1 ? 0xff : 0xffff;
    this.write(address, half, value & mask);
    this.write(address + half, half, (value >>> (8 * half)) & mask);
  }

  #at(address: number): MappedHandler | undefined {
    return this.#mapped.find(({ region }) => address >= region.base && address < region.base + region.length);
  }
}

interface MappedHandler {
  readonly region: IoRegion;
  readonly handler: UntrustedHandler;
}

/** @param width negative for a write */
const faultOf = (region: IoRegion, offset: number, width: number, answer: unknown): DeviceFault =>
  new DeviceFault(region.name, `${accessInWords(region, offset, width)}: ${badAnswer(answer)}`, []);

/** Reads and writes of a guest with x86's names. */
export class FakePorts {
  readonly #bus: BusAccess;

  constructor(bus: BusAccess) {
    this.#bus = bus;
  }

  in(port: number, width: IoWidth = 1): number {
    return this.#bus.read(port, width);
  }

  out(port: number, value: number, width: IoWidth = 1): void {
    this.#bus.write(port, width, value);
  }
}

function fits(region: IoRegion, address: number, width: IoWidth): boolean {
  return width <= (region.widest ?? 4) && address + width <= region.base + region.length;
}

function describe(region: IoRegion): string {
  return `${region.name} [0x${region.base.toString(16)}, +0x${region.length.toString(16)})`;
}
