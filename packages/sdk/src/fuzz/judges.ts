import type { IoWidth } from "@northbridge/core/contracts";
import type { TestBench } from "../bench/test-bench.ts";
import type { TraceEvent } from "../bench/trace.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { RegisterLayout } from "../registers/register-layout.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import type { Step } from "./program.ts";
import { benchFor, clone, type DeviceUnderTest, type LawName, observeStep, runStep } from "./run-program.ts";

/** What a law does beside a program: where in it, and with which register and value. */
export interface Experiment {
  readonly cut: number;
  readonly pick: number;
  readonly value: number;
}

/** A law that every device keeps: rejects where `program` shows that this one does not. */
export interface Judge {
  readonly name: LawName;
  /** Said of a counterexample, at the place of the cut. */
  readonly atCut?: string;
  judge(device: DeviceUnderTest, program: readonly Step[], experiment: Experiment): Promise<void>;
}

const runAll = (bench: TestBench, program: readonly Step[]): void => {
  for (const step of program) runStep(bench, step);
};

/** The contract of `IoHandler`. */
export const answersInWidth: Judge = {
  name: "fuzz",
  async judge(device, program) {
    runAll(await benchFor(device), program);
  },
};

/** The contract of `Snapshottable`. */
export const survivesSaving: Judge = {
  name: "save and restore",
  atCut: "saved and restored here",
  async judge(device, program, { cut }) {
    const bench = await benchFor(device);
    const at = cut % (program.length + 1);
    runAll(bench, program.slice(0, at));
    const other = await clone(device, bench);
    expectSame("interrupt levels", bench.interrupts.levels(), other.interrupts.levels(), RESTORED);
    expectSameFrom(bench, other, program, at, RESTORED);
  },
};

const RESTORED = "the restored device";
const RESET = "the device that was reset";
const OTHER = "the device that was written other bits";

/** The contract of `Resettable`: nothing of what was before can be seen. */
export const resetsToPowerOn: Judge = {
  name: "reset",
  atCut: "reset here",
  async judge(device, program, { cut }) {
    const bench = await benchFor(device);
    const at = cut % (program.length + 1);
    runAll(bench, program.slice(0, at));
    bench.device.reset?.(); // one that has none must not need it
    for (const fn of bench.pci.functions) fn.reset();
    for (const [gsi, isHigh] of Object.entries(bench.interrupts.levels())) {
      if (isHigh) throw new Error(`GSI ${gsi} is still high after reset`);
    }
    const fresh = await benchFor(device, bench.clock.nowNs());
    fresh.memory.bytes.set(bench.memory.bytes);
    bench.pci.enumerate();
    expectSameFrom(fresh, bench, program, at, RESET);
  },
};

/** Interrupt lines are levels: one that goes up and down at once is seen by nobody. */
export const holdsLevels: Judge = {
  name: "interrupt levels",
  async judge(device, program) {
    if (device.pulses === true) return;
    const bench = await benchFor(device);
    // Timers one by one: two of them may raise and drop a line in one stretch of time.
    for (const step of program) {
      const until = step.op === "advance" ? bench.clock.nowNs() + step.ns : 0;
      for (let turn = 0; turn < MOST_TIMERS && bench.clock.nextDeadlineNs() < until; turn++)
        expectNoPulse(observeStep(bench, { op: "timer" }).events, "a timer");
      if (step.op === "advance")
        runStep(bench, { op: "advance", ns: Math.max(0, until - bench.clock.nowNs()) });
      else expectNoPulse(observeStep(bench, step).events, step.op === "timer" ? "a timer" : step.op);
    }
  },
};

/** Looked at one by one in one step. */
const MOST_TIMERS = 100;

function expectNoPulse(events: readonly TraceEvent[], where: string): void {
  const raised = new Set<number>();
  for (const event of events) {
    if (event.kind !== "irq") continue;
    if (event.level) raised.add(event.gsi);
    else if (raised.has(event.gsi))
      throw new Error(`${where}: GSI ${event.gsi} went up and down at once: an interrupt that nobody sees`);
  }
}

/** What the register map says of reset values and accesses, whoever wrote the decoder. */
export const keepsRegisterMap: Judge = {
  name: "register map",
  atCut: "the register is tried here",
  async judge(device, program, { cut, pick, value }) {
    const map = device.registers;
    const chosen = map?.layouts[pick % map.layouts.length];
    if (map === undefined || chosen === undefined) return;
    const at = cut % (program.length + 1);
    if (at === 0) await expectResetValues(device, map);
    const bench = await benchFor(device);
    const other = await benchFor(device);
    for (const step of program.slice(0, at)) {
      runStep(bench, step);
      runStep(other, step);
    }
    const index = Math.floor(pick / map.layouts.length) % chosen.count;
    const register = portOf(bench, chosen, index);
    expectAccess(register, chosen, value, map.unreadable);
    // Bits that a write cannot reach make no difference, now or later.
    const { store, w1s, w1c } = chosen.masks;
    const unreachable = (allOf(chosen) & ~(store | w1s | w1c)) >>> 0;
    const twin = portOf(other, chosen, index);
    expectAccess(twin, chosen, value, map.unreadable);
    register.write(value);
    twin.write((value ^ unreachable) >>> 0);
    expectSameFrom(bench, other, program, at, OTHER);
  },
};

async function expectResetValues(device: DeviceUnderTest, map: RegisterMap<RegisterSpecs>): Promise<void> {
  for (const layout of map.layouts) {
    const bench = await benchFor(device);
    const shown = (layout.masks.show & ~layout.masks.volatile) >>> 0;
    for (const [index, reset] of layout.resets.entries()) {
      if (index > 0 && reset === layout.resets[index - 1]) continue;
      const found = (portOf(bench, layout, index).read() & shown) >>> 0;
      expectValue(layout, "after power-on", found, (reset & shown) >>> 0);
    }
  }
}

/** Reads, writes and reads again at one instant. */
function expectAccess(
  register: Port,
  layout: RegisterLayout,
  value: number,
  unreadable: "zeros" | "ones",
): void {
  const { store, show, w1s, w1c, rc, volatile } = layout.masks;
  const stable = (show & ~volatile & ~rc) >>> 0;
  const before = register.read();
  if (rc !== 0) expectValue(layout, "read again", register.read() & rc & ~volatile, 0);
  register.write(value);
  const cut = value & allOf(layout);
  const hidden = (allOf(layout) & ~show & ~volatile) >>> 0;
  const blank = unreadable === "ones" ? hidden : 0;
  expectValue(layout, "in bits that cannot be read", (register.read() & hidden) >>> 0, blank);
  const expected = (((before & ~store) | (cut & store) | (cut & w1s)) & ~(cut & w1c) & stable) >>> 0;
  expectValue(layout, `written 0x${(cut >>> 0).toString(16)}`, (register.read() & stable) >>> 0, expected);
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
  const width: IoWidth = layout.width;
  return {
    read: () => bus.read(address, width),
    write: (value) => {
      bus.write(address, width, (value & allOf(layout)) >>> 0);
    },
  };
}

const allOf = ({ width }: RegisterLayout): number => 2 ** (8 * width) - 1;

/** Two devices of which nobody outside can tell which is which, from step `at` on. */
function expectSameFrom(
  one: TestBench,
  other: TestBench,
  program: readonly Step[],
  at: number,
  who: string,
): void {
  for (const [index, step] of program.slice(at).entries()) {
    expectSame(`step ${at + index + 1}, ${step.op}`, runStep(one, step), runStep(other, step), who);
  }
  expectSame("the saved state at the end", one.device.save?.(), other.device.save?.(), who);
}

function expectSame(what: string, expected: unknown, found: unknown, who: string): void {
  const [a, b] = [JSON.stringify(expected), JSON.stringify(found)];
  if (a !== b) throw new Error(`${what}: ${who} differs: ${b}, the one beside it: ${a}`);
}
