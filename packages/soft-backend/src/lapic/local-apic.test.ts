import { VirtualClock } from "@northbridge/core";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TimeStampCounter } from "../scheduler/time-stamp-counter.ts";
import { ApicBus } from "./apic-bus.ts";
import { LocalApic } from "./local-apic.ts";

// Constants repeated from the SDM, so that a wrong one in the source cannot agree with itself.
const ID = 0x20;
const VERSION = 0x30;
const TPR = 0x80;
const PPR = 0xa0;
const EOI = 0xb0;
const LDR = 0xd0;
const DFR = 0xe0;
const SVR = 0xf0;
const ISR = 0x100;
const TMR = 0x180;
const IRR = 0x200;
const ESR = 0x280;
const ICR = 0x300;
const ICR_HIGH = 0x310;
const LVT_TIMER = 0x320;
const LINT0 = 0x350;
const LVT_ERROR = 0x370;
const INITIAL = 0x380;
const CURRENT = 0x390;
const DIVIDE = 0x3e0;

function machine(count = 1) {
  const clock = new VirtualClock();
  const bus = new ApicBus();
  const events: string[] = [];
  const tscs: TimeStampCounter[] = [];
  const apics = Array.from({ length: count }, (_, id) => {
    const tsc = new TimeStampCounter(clock);
    tscs.push(tsc);
    const apic: LocalApic = new LocalApic({
      id,
      clock,
      tsc,
      pins: {
        interruptChanged: () => undefined,
        nmi: () => events.push(`nmi ${id}`),
        init: () => events.push(`init ${id}`),
        startUp: (page) => events.push(`startUp ${id} ${page}`),
        taskPriorityChanged: () => undefined,
        endOfInterrupt: (vector) => events.push(`eoi ${vector}`),
        sendCommand: (low, destination) => {
          bus.command(apic, low, destination);
        },
      },
    });
    bus.attach(apic);
    return apic;
  });
  const pass = (ns: number): void => {
    clock.skipTo(clock.nowNs() + ns);
    clock.runDue();
  };
  return { clock, bus, apics, events, tscs, pass };
}

/** One software-enabled APIC. */
function enabled() {
  const parts = machine();
  const apic = parts.apics[0]!;
  apic.writeMmio(SVR, 4, 0x1ff);
  return { ...parts, apic };
}

const pending = (apic: LocalApic): number[] => {
  const vectors: number[] = [];
  for (let vector = 0; vector < 256; vector++) {
    if (((apic.readMmio(IRR + (vector >> 5) * 16, 4) >>> (vector & 31)) & 1) !== 0) vectors.push(vector);
  }
  return vectors;
};

describe("LocalApic", () => {
  it("has the SDM's values after power-on", () => {
    const { apics } = machine(2);
    const read = (offset: number): number[] => apics.map((apic) => apic.readMmio(offset, 4));
    expect(read(ID)).toEqual([0, 0x0100_0000]);
    expect(read(VERSION)).toEqual([0x5_0014, 0x5_0014]);
    expect(read(SVR)).toEqual([0xff, 0xff]);
    expect(read(DFR)).toEqual([0xffff_ffff, 0xffff_ffff]);
    expect(read(LVT_TIMER)).toEqual([0x1_0000, 0x1_0000]);
    expect(read(LINT0)).toEqual([0x700, 0x1_0000]); // the boot processor takes the 8259s' interrupt
    expect(apics.map((apic) => apic.mmioPage)).toEqual([0xfee00, 0xfee00]);
    expect(apics.map((apic) => apic.baseLow)).toEqual([0xfee0_0900, 0xfee0_0800]);
  });

  it("takes interrupts by priority and nests only higher classes", () => {
    const { apic } = enabled();
    apic.receive(0, 0x31, false);
    apic.receive(0, 0x52, false);
    expect(apic.acknowledge()).toBe(0x52);
    expect(apic.readMmio(PPR, 4)).toBe(0x50);
    apic.receive(0, 0x5f, false); // same class: waits
    expect(apic.hasInterrupt).toBe(false);
    apic.receive(0, 0x60, false);
    expect(apic.acknowledge()).toBe(0x60);
    apic.writeMmio(EOI, 4, 0);
    apic.writeMmio(EOI, 4, 0);
    expect(apic.acknowledge()).toBe(0x5f);
    apic.writeMmio(EOI, 4, 0);
    expect(apic.acknowledge()).toBe(0x31);
  });

  it("holds back what the task priority covers", () => {
    const { apic } = enabled();
    apic.setTaskPriority(4);
    expect(apic.readMmio(TPR, 4)).toBe(0x40);
    apic.receive(0, 0x4f, false);
    expect(apic.acknowledge()).toBe(-1);
    apic.writeMmio(TPR, 4, 0x3f);
    expect(apic.cr8).toBe(3);
    expect(apic.acknowledge()).toBe(0x4f);
  });

  it("tells the I/O APIC of the end of level-triggered interrupts only", () => {
    const { apic, events } = enabled();
    apic.receive(0, 0x40, false);
    apic.acknowledge();
    apic.writeMmio(EOI, 4, 0);
    apic.receive(0, 0x41, true);
    expect(apic.readMmio(TMR + 0x20, 4)).toBe(2);
    apic.acknowledge();
    apic.writeMmio(EOI, 4, 0);
    expect(events).toEqual(["eoi 65"]);
  });

  it("drops interrupts and forces masks while software-disabled", () => {
    const { apic } = enabled();
    apic.writeMmio(LVT_TIMER, 4, 0x40);
    apic.writeMmio(SVR, 4, 0xff);
    expect(apic.readMmio(LVT_TIMER, 4)).toBe(0x1_0040);
    apic.writeMmio(LVT_TIMER, 4, 0x40);
    expect(apic.readMmio(LVT_TIMER, 4)).toBe(0x1_0040);
    apic.receive(0, 0x50, false);
    expect(pending(apic)).toEqual([]);
  });

  it("reports illegal vectors and registers through the ESR and its LVT", () => {
    const { apic } = enabled();
    apic.writeMmio(LVT_ERROR, 4, 0xfe);
    apic.receive(0, 5, false);
    expect(apic.readMmio(ESR, 4)).toBe(0); // latched by a write only
    expect(pending(apic)).toEqual([0xfe]);
    apic.writeMmio(ESR, 4, 0);
    expect(apic.readMmio(ESR, 4)).toBe(0x40);
    apic.writeMmio(ICR, 4, 0x0003);
    apic.readMmio(0x40, 4);
    apic.writeMmio(ESR, 4, 0);
    expect(apic.readMmio(ESR, 4)).toBe(0xa0);
    apic.writeMmio(ESR, 4, 0);
    expect(apic.readMmio(ESR, 4)).toBe(0);
  });

  it("hands a virtual-wire interrupt on as its LVT says", () => {
    const { apic, events } = enabled();
    expect(apic.acceptsExtInt).toBe(true);
    apic.writeMmio(LINT0, 4, 0x1_0700);
    expect(apic.acceptsExtInt).toBe(false);
    apic.localEdge(0);
    apic.writeMmio(LINT0, 4, 0x0045);
    apic.localEdge(0);
    expect(pending(apic)).toEqual([0x45]);
    apic.writeMmio(LINT0, 4, 0x0400);
    apic.localEdge(0);
    expect(events).toEqual(["nmi 0"]);
    apic.writeBase(0xfee0_0000, 0);
    expect(apic.acceptsExtInt).toBe(true); // without an APIC the line is the processor's INTR
  });
});

describe("the timer", () => {
  it("counts down at 1 GHz over the divisor and fires once", () => {
    const { apic, pass } = enabled();
    apic.writeMmio(LVT_TIMER, 4, 0x30);
    apic.writeMmio(DIVIDE, 4, 0x3); // by 16
    apic.writeMmio(INITIAL, 4, 100);
    pass(16 * 40);
    expect(apic.readMmio(CURRENT, 4)).toBe(60);
    pass(16 * 60 - 1);
    expect(pending(apic)).toEqual([]);
    pass(1);
    expect(pending(apic)).toEqual([0x30]);
    expect(apic.readMmio(CURRENT, 4)).toBe(0);
    expect(apic.acknowledge()).toBe(0x30);
    pass(1_000_000);
    expect(pending(apic)).toEqual([]);
  });

  it.each([
    [0x0, 2],
    [0x1, 4],
    [0x2, 8],
    [0x3, 16],
    [0x8, 32],
    [0x9, 64],
    [0xa, 128],
    [0xb, 1],
  ])("divides by %#x as %d", (code, divisor) => {
    const { apic, pass } = enabled();
    apic.writeMmio(DIVIDE, 4, code);
    apic.writeMmio(INITIAL, 4, 1_000);
    pass(divisor * 10);
    expect(apic.readMmio(CURRENT, 4)).toBe(990);
  });

  it("repeats in periodic mode without drift", () => {
    const { apic, pass } = enabled();
    apic.writeMmio(LVT_TIMER, 4, 0x2_0031);
    apic.writeMmio(DIVIDE, 4, 0xb);
    apic.writeMmio(INITIAL, 4, 1_000);
    const ticks: number[] = [];
    for (let at = 100; at <= 4_000; at += 100) {
      pass(100);
      if (apic.acknowledge() === 0x31) {
        ticks.push(at);
        apic.writeMmio(EOI, 4, 0);
      }
    }
    expect(ticks).toEqual([1_000, 2_000, 3_000, 4_000]);
    apic.writeMmio(INITIAL, 4, 0);
    pass(10_000);
    expect(pending(apic)).toEqual([]);
  });

  it("merges the ticks a late host missed", () => {
    const { apic, pass } = enabled();
    apic.writeMmio(LVT_TIMER, 4, 0x2_0031);
    apic.writeMmio(DIVIDE, 4, 0xb);
    apic.writeMmio(INITIAL, 4, 1_000);
    pass(5_300);
    expect(pending(apic)).toEqual([0x31]);
    expect(apic.readMmio(CURRENT, 4)).toBe(700);
  });

  it("fires at a TSC value, and forgets it when the mode changes", () => {
    const { apic, pass, clock, tscs } = enabled();
    pass(123);
    tscs[0]!.write(0xffff_ff00, 0xffff_ffff); // about to wrap
    apic.writeTscDeadline(0x10, 0);
    expect(apic.tscDeadlineLow).toBe(0); // not in deadline mode
    apic.writeMmio(LVT_TIMER, 4, 0x4_0032);
    apic.writeTscDeadline(0x10, 0);
    expect(clock.nextDeadlineNs()).toBe(123 + 0x110);
    pass(0x110);
    expect(pending(apic)).toEqual([0x32]);
    expect([apic.tscDeadlineLow, apic.tscDeadlineHigh]).toEqual([0, 0]);
    apic.writeTscDeadline(0x1000, 0);
    apic.writeMmio(LVT_TIMER, 4, 0x0032);
    expect(clock.nextDeadlineNs()).toBe(Infinity);
  });

  it("fires at once for a deadline that has passed", () => {
    const { apic, pass } = enabled();
    pass(5_000);
    apic.writeMmio(LVT_TIMER, 4, 0x4_0032);
    apic.writeTscDeadline(1, 0);
    pass(0);
    expect(pending(apic)).toEqual([0x32]);
  });
});

describe("interrupt commands", () => {
  const cluster = (count: number) => {
    const parts = machine(count);
    for (const apic of parts.apics) apic.writeMmio(SVR, 4, 0x1ff);
    const receivers = (): number[] =>
      parts.apics.flatMap((apic, id) => (pending(apic).length > 0 ? [id] : []));
    const send = (from: number, low: number, destination: number): void => {
      parts.apics[from]!.writeMmio(ICR_HIGH, 4, (destination << 24) >>> 0);
      parts.apics[from]!.writeMmio(ICR, 4, low);
    };
    return { ...parts, receivers, send };
  };

  it.each([
    ["one by its id", 0x4040, 2, [2]],
    ["all by broadcast", 0x4040, 0xff, [0, 1, 2, 3]],
    ["itself by shorthand", 0x4_4040, 2, [1]],
    ["all by shorthand", 0x8_4040, 0, [0, 1, 2, 3]],
    ["all others by shorthand", 0xc_4040, 0, [0, 2, 3]],
    ["nobody where no id matches", 0x4040, 9, []],
  ])("reach %s", (_, low, destination, expected) => {
    const { receivers, send } = cluster(4);
    send(1, low, destination);
    expect(receivers()).toEqual(expected);
  });

  it("match logical destinations, flat and clustered", () => {
    const flat = cluster(4);
    flat.apics.forEach((apic, id) => {
      apic.writeMmio(LDR, 4, (1 << (24 + id)) >>> 0);
    });
    flat.send(0, 0x4840, 0b1010);
    expect(flat.receivers()).toEqual([1, 3]);
    const clustered = cluster(4);
    clustered.apics.forEach((apic, id) => {
      apic.writeMmio(DFR, 4, 0x0fff_ffff);
      apic.writeMmio(LDR, 4, (((id >> 1) << 28) | (1 << (24 + (id & 1)))) >>> 0);
    });
    clustered.send(0, 0x4840, 0x12);
    expect(clustered.receivers()).toEqual([3]);
  });

  it("send lowest-priority interrupts to the least busy", () => {
    const { apics, receivers, send } = cluster(3);
    apics[0]!.setTaskPriority(5);
    apics[1]!.setTaskPriority(2);
    apics[2]!.setTaskPriority(3);
    send(0, 0x4140, 0xff);
    expect(receivers()).toEqual([1]);
  });

  it("start other processors", () => {
    const { events, send } = cluster(2);
    send(0, 0x0000_4500, 1); // INIT
    send(0, 0x0000_8500, 1); // INIT level de-assert: nothing
    send(0, 0x0000_4699, 1); // start-up at page 0x99
    send(0, 0x0000_4400, 1); // NMI
    expect(events).toEqual(["init 1", "startUp 1 153", "nmi 1"]);
  });

  it("carry MSIs by address and data", () => {
    const { bus, receivers, apics } = cluster(3);
    bus.message(0xfee0_2000, 0x4051);
    expect(receivers()).toEqual([2]);
    expect(pending(apics[2]!)).toEqual([0x51]);
  });
});

describe("x2APIC mode", () => {
  const x2 = (count: number) => {
    const parts = machine(count);
    for (const apic of parts.apics) {
      apic.writeBase(apic.baseLow | 0x400, 0);
      apic.writeX2apic(SVR, 0x1ff, 0);
    }
    return parts;
  };

  it("moves the registers to MSRs", () => {
    const { apics } = x2(18);
    expect(apics[17]!.mmioPage).toBe(-1);
    expect(apics[17]!.readX2apic(ID)).toBe(17);
    expect(apics[17]!.readX2apic(LDR)).toBe(0x1_0002);
    expect(apics[17]!.readX2apic(DFR)).toBe(-1);
    expect(apics[17]!.readX2apic(0x3f0)).toBe(-1);
    expect(apics[17]!.writeX2apic(EOI, 1, 0)).toBe(false);
    expect(apics[17]!.writeX2apic(ID, 1, 0)).toBe(false);
    expect(apics[17]!.writeX2apic(TPR, 0x10, 1)).toBe(false);
  });

  it("sends commands in one 64-bit write", () => {
    const { apics } = x2(18);
    apics[3]!.writeX2apic(ICR, 0x4077, 17);
    expect(pending2(apics[17]!)).toEqual([0x77]);
    apics[3]!.writeX2apic(ICR, 0x4878, 0x1_0003); // cluster 1, members 0 and 1
    expect(apics.flatMap((apic, id) => (pending2(apic).includes(0x78) ? [id] : []))).toEqual([16, 17]);
    apics[5]!.writeX2apic(0x3f0, 0x60, 0);
    expect(pending2(apics[5]!)).toEqual([0x60]);
    expect(apics[3]!.readX2apic(ICR)).toBe(0x4878);
    expect(apics[3]!.readX2apicHigh(ICR)).toBe(0x1_0003);
  });

  it("refuses the transitions the SDM forbids", () => {
    const { apics } = x2(1);
    const apic = apics[0]!;
    expect(apic.writeBase(0xfee0_0800, 0)).toBe(false); // x2APIC → xAPIC
    expect(apic.writeBase(0xfee0_0400, 0)).toBe(false);
    expect(apic.writeBase(0xfee0_0000, 0)).toBe(true);
    expect(apic.writeBase(0xfee0_0c00, 0)).toBe(false); // disabled → x2APIC
    expect(apic.writeBase(0xfee0_0800, 0)).toBe(true);
    expect(apic.isX2apic).toBe(false);
  });

  const pending2 = (apic: LocalApic): number[] =>
    Array.from({ length: 256 }, (_, vector) => vector).filter(
      (vector) => ((apic.readX2apic(IRR + (vector >> 5) * 16) >>> (vector & 31)) & 1) !== 0,
    );
});

describe("under any sequence of events", () => {
  const vector = fc.oneof(
    fc.constantFrom(16, 0x2f, 0x30, 0x3f, 0x40, 0xef, 0xff),
    fc.integer({ min: 16, max: 255 }),
  );
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ op: fc.constant("receive" as const), value: vector }) },
    { weight: 3, arbitrary: fc.record({ op: fc.constant("acknowledge" as const), value: fc.constant(0) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant("eoi" as const), value: fc.constant(0) }) },
    {
      weight: 1,
      arbitrary: fc.record({ op: fc.constant("tpr" as const), value: fc.integer({ min: 0, max: 255 }) }),
    },
  );

  it("delivers as sets of vectors would", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { apic } = enabled();
        const irr = new Set<number>();
        const isr: number[] = [];
        let tpr = 0;
        for (const { op, value } of steps) {
          if (op === "receive") {
            apic.receive(0, value, false);
            irr.add(value);
          } else if (op === "tpr") {
            apic.writeMmio(TPR, 4, value);
            tpr = value;
          } else if (op === "eoi") {
            apic.writeMmio(EOI, 4, 0);
            isr.sort((a, b) => a - b).pop();
          } else {
            const best = Math.max(-1, ...irr);
            const class_ = Math.max(tpr >> 4, ...isr.map((inService) => inService >> 4));
            const want = best >> 4 > class_ ? best : -1;
            expect(apic.acknowledge()).toBe(want);
            if (want >= 0) {
              irr.delete(want);
              isr.push(want);
            }
          }
          expect(pending(apic)).toEqual([...irr].sort((a, b) => a - b));
        }
      }),
    );
  });

  const word = fc.oneof(
    fc.constantFrom(0, 0x1ff, 0x30, 0x2_0031, 0x4_0032, 0x700, 1_000, 0xb),
    fc.nat(0xffff_ffff),
  );
  const register = fc.constantFrom(
    ID,
    TPR,
    EOI,
    LDR,
    DFR,
    SVR,
    ESR,
    ICR_HIGH,
    LVT_TIMER,
    LINT0,
    LVT_ERROR,
    INITIAL,
    DIVIDE,
  );
  const access = fc.record({ offset: register, value: word, ns: fc.nat(2_000) });

  it("restores to an APIC that goes on alike", () => {
    fc.assert(
      fc.property(fc.array(access), fc.array(access), (before, after) => {
        const a = enabled();
        const play = (parts: ReturnType<typeof enabled>, accesses: typeof before): number[] =>
          accesses.flatMap(({ offset, value, ns }) => {
            parts.apic.writeMmio(offset, 4, value);
            parts.pass(ns);
            return [
              parts.apic.acknowledge(),
              parts.apic.readMmio(offset, 4),
              parts.apic.readMmio(PPR, 4),
              parts.apic.readMmio(ISR + 0x10, 4),
            ];
          });
        play(a, before);
        const b = machine();
        b.pass(a.clock.nowNs());
        const restored = b.apics[0]!;
        restored.adoptBase(a.apic.baseLow, a.apic.baseHigh);
        restored.restore(a.apic.save(), a.apic.remainder);
        expect(restored.save()).toEqual(a.apic.save());
        expect(play({ ...b, apic: restored }, after)).toEqual(play(a, after));
      }),
    );
  });
});
