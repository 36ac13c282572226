import type { TestBench } from "../bench/test-bench.ts";
import type { TraceEvent } from "../bench/trace.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { RegisterLayout } from "../registers/register-layout.ts";
import type { RegisterMap } from "../registers/register-map.ts";

/** Elements of an array that are looked at where all are. */
const MOST_ELEMENTS = 8;

/** What a register map says of reset values and accesses, whoever wrote the decoder. */
export class RegisterLaw {
  readonly map: RegisterMap<RegisterSpecs>;
  /** Elements with reserved bits, by offset. */
  readonly #reserved = new Map<number, { readonly layout: RegisterLayout; readonly index: number }>();

  constructor(map: RegisterMap<RegisterSpecs>) {
    this.map = map;
    for (const layout of map.layouts) {
      if ((layout.masks.reserved & ~layout.masks.volatile) === 0) continue;
      for (let index = 0; index < Math.min(layout.count, MOST_ELEMENTS); index++)
        this.#reserved.set(layout.offset + index * layout.stride, { layout, index });
    }
  }

  /** A new device's register reads as it says. */
  expectResetValues(bench: TestBench, layout: RegisterLayout): void {
    const shown = (layout.masks.show & ~layout.masks.volatile) >>> 0;
    for (const [index, reset] of layout.resets.entries()) {
      if (index > 0 && reset === layout.resets[index - 1]) continue;
      const found = (portOf(bench, layout, index).read() & shown) >>> 0;
      expectValue(layout, "after power-on", found, (reset & shown) >>> 0);
    }
  }

  /** Reads, writes and reads again at one instant. */
  expectAccess(bench: TestBench, layout: RegisterLayout, index: number, value: number): void {
    const register = portOf(bench, layout, index);
    const { store, show, w1s, w1c, rc, volatile } = layout.masks;
    const stable = (show & ~volatile & ~rc) >>> 0;
    const before = register.read();
    if (rc !== 0) expectValue(layout, "read again", register.read() & rc & ~volatile, 0);
    register.write(value);
    const cut = value & allOf(layout);
    const hidden = (allOf(layout) & ~show & ~volatile) >>> 0;
    const blank = this.map.unreadable === "ones" ? hidden : 0;
    expectValue(layout, "in bits that cannot be read", (register.read() & hidden) >>> 0, blank);
    const expected = (((before & ~store) | (cut & store) | (cut & w1s)) & ~(cut & w1c) & stable) >>> 0;
    expectValue(layout, `written 0x${(cut >>> 0).toString(16)}`, (register.read() & stable) >>> 0, expected);
  }

  /** Writes the same to both but for bits that a write cannot reach: they make no difference, now or later. */
  writeTwins(
    one: TestBench,
    other: TestBench,
    {
      layout,
      index,
      value,
    }: { readonly layout: RegisterLayout; readonly index: number; readonly value: number },
  ): void {
    const { store, w1s, w1c } = layout.masks;
    const unreachable = (allOf(layout) & ~(store | w1s | w1c)) >>> 0;
    portOf(one, layout, index).write(value);
    portOf(other, layout, index).write((value ^ unreachable) >>> 0);
  }

  /** Bits that nobody has keep their reset values: of a read that the bench saw. */
  expectRead(
    bench: TestBench,
    { region, offset, width, value }: Extract<TraceEvent, { kind: "read" | "write" }>,
  ): void {
    const element = this.#reserved.get(offset);
    if (element?.layout.width !== width || region !== bench.registerRegion().region.name) return;
    expectReserved(element.layout, element.index, value);
  }

  /** The same of all registers. */
  expectReservedBits(bench: TestBench): void {
    for (const { layout, index } of this.#reserved.values())
      expectReserved(layout, index, portOf(bench, layout, index).read());
  }
}

function expectReserved(layout: RegisterLayout, index: number, value: number): void {
  const { reserved, volatile } = layout.masks;
  const mask = (reserved & ~volatile) >>> 0;
  expectValue(layout, "in reserved bits", (value & mask) >>> 0, ((layout.resets[index] ?? 0) & mask) >>> 0);
}

function expectValue({ name }: RegisterLayout, when: string, found: number, expected: number): void {
  if (found === expected) return;
  throw new Error(
    `${name} ${when} reads 0x${found.toString(16)}, by its register map 0x${expected.toString(16)}`,
  );
}

interface Port {
  read(): number;
  write(value: number): void;
}

function portOf(bench: TestBench, layout: RegisterLayout, index: number): Port {
  const { bus, region } = bench.registerRegion();
  const address = region.base + layout.offset + index * layout.stride;
  const { width } = layout;
  return {
    read: () => bus.read(address, width),
    write: (value) => {
      bus.write(address, width, (value & allOf(layout)) >>> 0);
    },
  };
}

const allOf = ({ width }: RegisterLayout): number => 2 ** (8 * width) - 1;
