import type { IoRegion, IoWidth } from "@northbridge/core/contracts";
import fc from "fast-check";
import type { TestBench } from "../bench/test-bench.ts";
import { benchFor, type DeviceUnderTest, regionsOf } from "./device-under-test.ts";
import { operationOf } from "./operation-of.ts";
import { type KnownRegister, MOST_BYTES, type Space } from "./program.ts";

/** A place in a device's ranges where an access makes a difference. */
export interface DiscoveredRegister {
  readonly space: Space;
  /** Of the region that it is in. */
  readonly region: string;
  readonly offset: number;
  readonly width: IoWidth;
  /** What it reads as in a new device. */
  readonly reset: number;
  /** Bits of which a write of each alone makes a difference. */
  readonly bits: number;
}

/** Of each region: a window full of memory is as good as known after that many. */
const MOST_REGISTERS = 128;
/** Bit by bit. */
const MOST_TAKEN_APART = 64;
/** Bytes that are passed over at once where there is nothing in them. */
const BLOCK = 128;
const WIDTHS: readonly IoWidth[] = [4, 2, 1];

/**
 * Finds a device's registers by trying: every offset of its regions is read and written in all widths, and what then
 * reads otherwise, is saved otherwise, or makes something happen is a register. Tries again once all that was found has
 * been written and time has passed: a device at work shows more. Of wide and narrow accesses to the same bytes both are
 * listed where both make a difference.
 */
export async function discoverRegisters(device: DeviceUnderTest): Promise<readonly DiscoveredRegister[]> {
  const atRest = await discoverFrom(device, []);
  const atWork = await discoverFrom(device, atRest);
  const isNew = (found: DiscoveredRegister): boolean => !atRest.some((known) => isSamePlace(known, found));
  return [...atRest, ...atWork.filter(isNew)].toSorted((a, b) => b.width - a.width || a.offset - b.offset);
}

const isSamePlace = (a: DiscoveredRegister, b: DiscoveredRegister): boolean =>
  a.space === b.space && a.region === b.region && a.offset === b.offset && a.width === b.width;

async function discoverFrom(
  device: DeviceUnderTest,
  written: readonly DiscoveredRegister[],
): Promise<DiscoveredRegister[]> {
  const probe = await Probe.start(device, written);
  const found: DiscoveredRegister[] = [];
  for (const space of ["mmio", "ports"] as const) {
    for (const region of regionsOf(probe.bench, space))
      found.push(...(await discoverIn(probe, space, region)));
  }
  return found;
}

async function discoverIn(probe: Probe, space: Space, region: IoRegion): Promise<DiscoveredRegister[]> {
  const { base, length, name, widest = 4 } = region;
  const found: DiscoveredRegister[] = [];
  for (const width of WIDTHS) {
    if (width > widest) continue;
    const reach = Math.min(length, MOST_BYTES);
    for (let block = 0; block < reach; block += BLOCK) {
      const end = Math.min(block + BLOCK, reach);
      if (!(await probe.hasAnything({ space, address: base + block, width }, base + end))) continue;
      for (let offset = block; offset + width <= end; offset += width) {
        const wider = found.find((each) => each.offset <= offset && offset < each.offset + each.width);
        const known = wider && (wider.bits >>> (8 * (offset - wider.offset))) & (2 ** (8 * width) - 1);
        const register = await probe.tryRegister({ space, address: base + offset, width }, known);
        if (register !== undefined) found.push({ space, region: name, offset, width, ...register });
        if (found.length === MOST_REGISTERS) return found;
      }
    }
  }
  return found;
}

/** Registers found by trying, as a fuzzer wants to know them: the widest at each place come more often. */
export function knownByTrying(registers: readonly DiscoveredRegister[]): readonly KnownRegister[] {
  const covered = new Set<number>();
  return registers.flatMap(({ offset, width, reset, bits }) => {
    const isWidest = !covered.has(offset);
    for (let byte = offset; byte < offset + width; byte++) covered.add(byte);
    const known: KnownRegister = {
      offset,
      width,
      count: 1,
      stride: width,
      values: valuesOf(width, reset, bits),
      isSetUp: isWidest && bits !== 0,
      addresses: holdsAddresses(bits) ? [ADDRESS] : [],
    };
    return isWidest ? [known, known, known] : [known];
  });
}

/** Where a device may be told to look: behind the first page. */
const ADDRESS = 0x1000;
const LENGTH = 4;

/** Addresses and lengths have many bits. */
const holdsAddresses = (bits: number): boolean => (bits & ADDRESS) !== 0 && (bits & LENGTH) !== 0;

function valuesOf(width: IoWidth, reset: number, bits: number): fc.Arbitrary<number> {
  const all = 2 ** (8 * width) - 1;
  const single = Array.from({ length: 8 * width }, (_, at) => (1 << at) >>> 0).filter(
    (bit) => (bits & bit) !== 0,
  );
  const special = [0, 1, reset, bits, all, ...(holdsAddresses(bits) ? [ADDRESS, LENGTH] : [])];
  return fc.oneof(
    { arbitrary: fc.constantFrom(...special, ...(single.length <= 8 ? single : [])), weight: 3 },
    { arbitrary: fc.nat(all).map((value) => (value & bits) >>> 0), weight: 3 },
    { arbitrary: fc.nat(all), weight: 1 },
  );
}

interface Where {
  readonly space: Space;
  readonly address: number;
  readonly width: IoWidth;
}

/** Tries accesses on a device, and has a new one after each that changed it. */
class Probe {
  bench: TestBench;
  readonly #device: DeviceUnderTest;
  readonly #written: readonly DiscoveredRegister[];
  #before: string;
  #takenApart = 0;

  /** @param written put to work by writing these */
  static async start(device: DeviceUnderTest, written: readonly DiscoveredRegister[]): Promise<Probe> {
    return new Probe(device, written, await atWork(device, written));
  }

  private constructor(device: DeviceUnderTest, written: readonly DiscoveredRegister[], bench: TestBench) {
    this.#device = device;
    this.#written = written;
    this.bench = bench;
    this.#before = stateOf(bench);
  }

  /** Whether any place up to `end` may be a register: they are written one after the other, and looked at together. */
  async hasAnything({ space, address, width }: Where, end: number): Promise<boolean> {
    const all = 2 ** (8 * width) - 1;
    for (const value of [all, 0]) {
      let isSeen = false;
      const bus = this.bench[space];
      const events = this.bench.record(() => {
        for (let at = address; at + width <= end; at += width) {
          const before = this.#read({ space, address: at, width });
          try {
            bus.write(at, width, value);
          } catch {
            isSeen = true;
          }
          isSeen ||= (before !== 0 && before !== all) || this.#read({ space, address: at, width }) !== before;
        }
      });
      isSeen ||= events.some(({ kind }) => kind !== "read" && kind !== "write");
      if ((await this.#isChanged()) || isSeen) return true;
    }
    return false;
  }

  /**
   * What is there, if anything. Reads of nothing give zeroes or ones, and writes leave no trace.
   * @param known its bits, where a wider register there has told them
   */
  async tryRegister(
    where: Where,
    known?: number,
  ): Promise<{ readonly reset: number; readonly bits: number } | undefined> {
    const all = 2 ** (8 * where.width) - 1;
    const reset = this.#read(where);
    let isThere = (reset !== 0 && reset !== all) || (await this.#isChanged());
    const untouched = JSON.stringify([reset, [], this.#before]);
    let zero: string | undefined;
    for (const value of [all, 0]) {
      zero = await this.#outcome(where, value);
      isThere ||= zero !== untouched;
    }
    if (!isThere) return undefined;
    if (known !== undefined) return { reset: reset ?? 0, bits: known };
    if (this.#takenApart++ >= MOST_TAKEN_APART) return { reset: reset ?? 0, bits: all };
    let bits = 0;
    for (let bit = 0; bit < 8 * where.width; bit++) {
      if ((await this.#outcome(where, (1 << bit) >>> 0)) !== zero) bits |= 1 << bit;
    }
    return { reset: reset ?? 0, bits: bits >>> 0 };
  }

  #read({ space, address, width }: Where): number | undefined {
    try {
      return this.bench[space].read(address, width);
    } catch {
      return undefined;
    }
  }

  /** Everything that comes of a write: what is read then, what happens, and the state behind. */
  async #outcome({ space, address, width }: Where, value: number): Promise<string> {
    const bus = this.bench[space];
    let readBack: unknown;
    const events = this.bench.record(() => {
      // A device that throws is there, too: laws report it.
      try {
        bus.write(address, width, value);
        readBack = bus.read(address, width);
      } catch (error) {
        readBack = String(error);
      }
    });
    const outside = events.filter(({ kind }) => kind !== "read" && kind !== "write");
    const outcome = JSON.stringify([readBack, outside, stateOf(this.bench)]);
    await this.#isChanged();
    return outcome;
  }

  /** Whether the device is another than before; makes a new one then. */
  async #isChanged(): Promise<boolean> {
    if (stateOf(this.bench) === this.#before) return false;
    this.bench = await atWork(this.#device, this.#written);
    return true;
  }
}

async function atWork(device: DeviceUnderTest, written: readonly DiscoveredRegister[]): Promise<TestBench> {
  const bench = await benchFor(device);
  if (written.length === 0) return bench;
  const bases = (["mmio", "ports"] as const).flatMap((space) =>
    regionsOf(bench, space).map(({ name, base }) => ({ space, name, base })),
  );
  try {
    for (const { space, region, offset, width, bits } of written) {
      const place = bases.find((each) => each.space === space && each.name === region);
      if (place !== undefined && bits !== 0) bench[space].write(place.base + offset, width, bits);
    }
    operationOf({ op: "timer" })(bench);
  } catch {
    // Laws report it.
  }
  return bench;
}

function stateOf({ device, clock, interrupts }: TestBench): string {
  const deadline = clock.nextDeadlineNs();
  const shown = [device.save?.(), Number.isFinite(deadline) ? deadline : null, interrupts.levels()];
  // Laws report a state that JSON does not hold.
  return JSON.stringify(shown, (_key, value: unknown) => (typeof value === "bigint" ? `${value}n` : value));
}
