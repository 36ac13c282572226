import { VirtualClock } from "@northbridge/core";
import { describe, expect, it } from "vitest";
import { LocalApic } from "../lapic/local-apic.ts";
import { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";
import { MsrFile } from "./msr-file.ts";

function setup() {
  const clock = new VirtualClock();
  const tsc = new TimeStampCounter(clock);
  const nothing = (): void => undefined;
  const lapic = new LocalApic({
    id: 0,
    clock,
    tsc,
    pins: {
      interruptChanged: nothing,
      nmi: nothing,
      init: nothing,
      startUp: nothing,
      taskPriorityChanged: nothing,
      endOfInterrupt: nothing,
      sendCommand: nothing,
    },
  });
  const msrs = new MsrFile({ lapic, tsc });
  const read = (index: number): bigint | "#GP" =>
    msrs.read(index) ? (BigInt(msrs.high) << 32n) | BigInt(msrs.low) : "#GP";
  return { clock, lapic, msrs, read };
}

describe("MsrFile", () => {
  it("has the reset values that guests look at", () => {
    const { read } = setup();
    expect(read(0x1b)).toBe(0xfee0_0900n); // IA32_APIC_BASE
    expect(read(0xfe)).toBe(0x508n); // IA32_MTRRCAP
    expect(read(0x3a)).toBe(1n); // IA32_FEATURE_CONTROL: locked
    expect(read(0x179)).toBe(0n); // IA32_MCG_CAP: no banks
    expect((read(0x10a) as bigint) & 0x3n).toBe(3n); // RDCL_NO, IBRS_ALL
  });

  it("raises #GP for what does not exist or cannot be written, and counts it", () => {
    const { msrs, read } = setup();
    expect(read(0x1234)).toBe("#GP");
    expect(read(0xc001_0015)).toBe("#GP");
    expect(read(0x49)).toBe("#GP"); // IA32_PRED_CMD is write-only
    expect(msrs.write(0x49, 1, 0)).toBe(true);
    expect(msrs.write(0xfe, 0, 0)).toBe(false);
    expect(msrs.write(0x10a, 0, 0)).toBe(false);
    expect(read(0x802)).toBe("#GP"); // x2APIC is off
    expect(msrs.refused).toBe(6);
  });

  it("keeps MTRRs, and saves and loads them by index", () => {
    const { msrs, read } = setup();
    expect(msrs.write(0x2ff, 0xc06, 0)).toBe(true);
    expect(msrs.write(0x201, 0x800, 0xff)).toBe(true);
    expect(read(0x2ff)).toBe(0xc06n);
    const copy = setup();
    for (const [index, value] of msrs.save()) expect(copy.msrs.adopt(index, value)).toBe(true);
    expect(copy.read(0x201)).toBe(0xff_0000_0800n);
    expect(copy.msrs.save()).toEqual(msrs.save());
    expect(copy.msrs.adopt(0x4b56_4d01, 5n)).toBe(false);
  });

  it("moves the TSC and tells of it in TSC_ADJUST", () => {
    const { clock, msrs, read } = setup();
    clock.skipTo(1_000);
    expect(read(0x10)).toBe(1_000n);
    msrs.write(0x10, 400, 0);
    expect(read(0x10)).toBe(400n);
    expect(read(0x3b)).toBe(0xffff_ffff_ffff_fda8n); // −600
    msrs.write(0x3b, 0, 0);
    expect(read(0x10)).toBe(1_000n);
  });

  it("reaches the local APIC in x2APIC mode and the deadline timer", () => {
    const { clock, lapic, msrs, read } = setup();
    msrs.write(0x1b, 0xfee0_0d00, 0);
    expect(lapic.isX2apic).toBe(true);
    expect(msrs.write(0x80f, 0x1ff, 0)).toBe(true);
    expect(msrs.write(0x832, 0x4_0020, 0)).toBe(true);
    msrs.write(0x6e0, 5_000, 0);
    expect(read(0x6e0)).toBe(5_000n);
    expect(clock.nextDeadlineNs()).toBe(5_000);
    msrs.write(0x10, 1_000, 0); // the counter jumps towards the deadline
    expect(clock.nextDeadlineNs()).toBe(4_000);
  });
});
