import { NorthbridgeError } from "@northbridge/core/contracts";
import type { TestBench } from "../bench/test-bench.ts";
import type { TraceEvent } from "../bench/trace.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import {
  benchFor,
  clone,
  type DeviceChecker,
  type DeviceUnderTest,
  type LawName,
  savedState,
} from "./device-under-test.ts";
import { MOST_TIMERS, type Operation, operationOf } from "./operation-of.ts";
import { Command, Reg } from "../pci/spec.ts";
import { RegisterLaw } from "./register-law.ts";

/**
 * A device on trial for one law: operations are done to it one by one, and what it shows is judged. Once there are two
 * of them that nobody may tell apart, a restored one beside the one it was saved from, every operation is done to both.
 * Printed counterexamples are written with it.
 */
export class DeviceTrial<R extends RegisterSpecs = RegisterSpecs> {
  readonly #device: DeviceUnderTest;
  readonly #law: LawName;
  readonly #registers: RegisterLaw | undefined;
  readonly #checker: DeviceChecker | undefined;
  /** Its functions are no bus masters any more. */
  #isCutOff = false;
  /** The one to be like. */
  #bench: TestBench;
  /** The one on trial, where it is beside another. */
  #other: { readonly bench: TestBench; readonly who: string } | undefined;
  /** What was done so far, for a twin: by the register map's law alone. */
  readonly #done: Operation[] = [];
  #operations = 0;

  /** For `deviceTrial`. */
  constructor(device: DeviceUnderTest, law: LawName, bench: TestBench) {
    this.#device = device;
    this.#law = law;
    this.#bench = bench;
    this.#registers =
      law === "register map" && device.registers !== undefined
        ? new RegisterLaw(device.registers)
        : undefined;
    this.#checker = law === "data sheet" ? device.checker?.() : undefined;
  }

  /** Does one operation. Throws where the device breaks the law. */
  run(operation: Operation<R>): void {
    const each = operation as Operation;
    this.#operations++;
    const shown = this.#show(this.#bench, each);
    if (this.#other === undefined) {
      if (this.#registers !== undefined) this.#done.push(each);
      return;
    }
    const { bench, who } = this.#other;
    expectSame(`operation ${this.#operations}`, shown, this.#show(bench, each), who);
  }

  /** Lets time pass, up to a number of timers. */
  advance(ns: number): void {
    if (this.#law !== "interrupt levels") {
      this.run(operationOf({ op: "advance", ns }));
      return;
    }
    // Timers one by one: two of them may raise and drop a line in one stretch of time.
    const { clock } = this.#bench;
    const untilNs = clock.nowNs() + ns;
    for (let turn = 0; clock.nextDeadlineNs() <= untilNs; turn++) {
      if (turn === MOST_TIMERS) return;
      this.nextTimer();
    }
    clock.advanceTo(untilNs);
  }

  /** Lets time pass until the device's next timer, if it has one. */
  nextTimer(): void {
    this.run(operationOf({ op: "timer" }));
  }

  /** From here on a second device is there, restored from what the first one saved. */
  async saveAndRestore(): Promise<void> {
    const bench = await clone(this.#device, this.#bench);
    this.#compareWith(bench, "the restored device");
    expectSame(
      "interrupt levels",
      this.#bench.interrupts.levels(),
      bench.interrupts.levels(),
      "the restored device",
    );
  }

  /** The device is reset; from here on a new one is beside it. */
  async reset(): Promise<void> {
    const bench = this.#bench;
    bench.device.reset?.(); // one that has none must not need it
    for (const fn of bench.pci.functions) fn.reset();
    for (const [gsi, isHigh] of Object.entries(bench.interrupts.levels())) {
      if (isHigh) throw new Error(`GSI ${gsi} is still high after reset`);
    }
    this.#bench = await benchFor(this.#device, bench.clock.nowNs());
    this.#bench.memory.bytes.set(bench.memory.bytes);
    bench.pci.enumerate();
    this.#compareWith(bench, "the device that was reset");
  }

  /** From here on the device may neither read nor write memory, nor send messages. */
  endBusMaster(): void {
    for (const fn of this.#bench.pci.functions) fn.configWrite(Reg.COMMAND, 2, Command.IO | Command.MEMORY);
    this.#isCutOff = true;
  }

  /** Every register of a new device reads as its map says. */
  async expectResetValues(): Promise<void> {
    for (const layout of this.#registerLaw().map.layouts)
      this.#registerLaw().expectResetValues(await benchFor(this.#device), layout);
  }

  /**
   * Reads, writes and reads a register; from here on a second device is there that was written other bits wherever a
   * write makes no difference.
   * @param index of the element, where it is an array
   */
  async tryRegister(name: string & keyof R, value: number, index = 0): Promise<void> {
    const law = this.#registerLaw();
    const layout = law.map.layouts.find((each) => each.name === name);
    if (layout === undefined) throw new NorthbridgeError("NB_CONFIG", `${law.map.name}: no register ${name}`);
    const twin = await benchFor(this.#device);
    for (const operation of this.#done) this.#show(twin, operation);
    law.expectAccess(this.#bench, layout, index, value);
    law.expectAccess(twin, layout, index, value);
    law.writeTwins(this.#bench, twin, { layout, index, value });
    this.#compareWith(twin, "the device that was written other bits");
  }

  /** Nothing more happens: compares what is saved, and looks at all registers once more. */
  end(): void {
    if (this.#other !== undefined) {
      const { bench, who } = this.#other;
      expectSame("the saved state at the end", savedState(this.#bench), savedState(bench), who);
    }
    this.#registers?.expectReservedBits(this.#bench);
  }

  #compareWith(bench: TestBench, who: string): void {
    if (this.#other !== undefined)
      throw new NorthbridgeError("NB_CONFIG", "a trial compares two devices once");
    this.#other = { bench, who };
  }

  #registerLaw(): RegisterLaw {
    if (this.#registers === undefined)
      throw new NorthbridgeError("NB_CONFIG", `a trial for "${this.#law}" knows no register map`);
    return this.#registers;
  }

  /** What one operation showed to the outside, as text: its result, interrupts, DMA. */
  #show(bench: TestBench, operation: Operation): string {
    let result: unknown;
    const { reads } = bench.memory;
    const events = bench.record(() => {
      result = operation(bench);
    });
    this.#checker?.see(events, bench);
    if (this.#isCutOff) expectNoMaster(events, bench.memory.reads - reads);
    const outside: unknown[] = [result ?? null];
    for (const event of events) {
      if (event.kind === "write") continue;
      if (event.kind === "read") {
        this.#registers?.expectRead(bench, event);
        continue;
      }
      outside.push(event);
      if (event.kind === "dma") outside.push(digest(bench.memory.bytes, event.gpa, event.length));
    }
    if (this.#law === "interrupt levels") expectNoPulse(events);
    return JSON.stringify(outside);
  }
}

/**
 * Puts a device on trial for one law: on a bench, with what it needs around it and its BARs placed.
 *
 * @example
 * ```ts
 * const trial = await deviceTrial({ create: () => thermometer(), registers }, "save and restore");
 * trial.run((bench) => bench.regs.CTRL.write({ ENABLE: 1 }));
 * await trial.saveAndRestore();
 * trial.nextTimer();
 * trial.end();
 * ```
 */
export async function deviceTrial<R extends RegisterSpecs = RegisterSpecs>(
  device: DeviceUnderTest & { readonly registers?: RegisterMap<R> },
  law: LawName,
): Promise<DeviceTrial<R>> {
  return new DeviceTrial<R>(device, law, await benchFor(device));
}

function expectNoMaster(events: readonly TraceEvent[], reads: number): void {
  const [access] = events.filter(({ kind }) => kind === "dma" || kind === "msi");
  if (access === undefined && reads === 0) return;
  const what =
    access === undefined ? "read memory" : access.kind === "msi" ? "sent a message" : "wrote memory";
  throw new Error(`the device ${what} and is no bus master`);
}

function expectNoPulse(events: readonly TraceEvent[]): void {
  const raised = new Set<number>();
  for (const event of events) {
    if (event.kind !== "irq") continue;
    if (event.level) raised.add(event.gsi);
    else if (raised.has(event.gsi))
      throw new Error(`GSI ${event.gsi} went up and down at once: an interrupt that nobody sees`);
  }
}

function expectSame(what: string, expected: unknown, found: unknown, who: string): void {
  const [a, b] = [JSON.stringify(expected), JSON.stringify(found)];
  if (a !== b) throw new Error(`${what}: ${who} differs: ${b}, the one beside it: ${a}`);
}

/** FNV-1a of what the device wrote. */
function digest(bytes: Uint8Array, gpa: number, length: number): number {
  let hash = 0x811c_9dc5;
  for (let at = gpa; at < gpa + length; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x0100_0193);
  return hash >>> 0;
}
