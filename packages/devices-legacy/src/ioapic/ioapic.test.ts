import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ApicMessage, Ioapic, type IoapicStateV1 } from "./ioapic.ts";

function setup() {
  const sent: ApicMessage[] = [];
  const chip = new Ioapic({
    deliver: (message) => {
      sent.push({ ...message });
    },
  });
  const read = (reg: number) => {
    chip.write(0x00, 4, reg);
    return chip.read(0x10, 4);
  };
  const write = (reg: number, value: number) => {
    chip.write(0x00, 4, reg);
    chip.write(0x10, 4, value >>> 0);
  };
  return { chip, sent, read, write };
}

const LEVEL = 0x8000;
const MASKED = 0x1_0000;
const REMOTE_IRR = 0x4000;
const entry = (pin: number) => 0x10 + 2 * pin;

describe("Ioapic", () => {
  it("has the data sheet's reset values", () => {
    const { read } = setup();
    expect(read(0)).toBe(0);
    expect(read(1)).toBe(0x0017_0011);
    for (let pin = 0; pin < 24; pin++) expect([read(entry(pin)), read(entry(pin) + 1)]).toEqual([MASKED, 0]);
  });

  it("keeps its ID and nothing else of the ID register", () => {
    const { read, write } = setup();
    write(0, 0xffff_ffff);
    expect([read(0), read(2)]).toEqual([0x0f00_0000, 0x0f00_0000]);
  });

  it("keeps only writable bits of an entry", () => {
    const { read, write } = setup();
    write(entry(5), 0xffff_ffff);
    write(entry(5) + 1, 0xffff_ffff);
    expect([read(entry(5)), read(entry(5) + 1)]).toEqual([0x0001_afff, 0xff00_0000]);
  });

  it("sends one message per rising edge", () => {
    const { chip, sent, write } = setup();
    write(entry(4) + 1, 0x0300_0000);
    write(entry(4), 0x0841);
    for (const level of [true, true, false, true]) chip.setIrq(4, level);
    expect(sent).toEqual(
      Array(2).fill({
        vector: 0x41,
        deliveryMode: 0,
        destinationMode: "logical",
        destination: 3,
        trigger: "edge",
      }),
    );
  });

  it("loses an edge on a masked pin", () => {
    const { chip, sent, write } = setup();
    write(entry(4), MASKED | 0x41);
    chip.setIrq(4, true);
    write(entry(4), 0x41);
    expect(sent).toEqual([]);
  });

  it("sends a level once, and again after each EOI while asserted", () => {
    const { chip, sent, read, write } = setup();
    write(entry(9), LEVEL | 0x59);
    chip.setIrq(9, true);
    chip.setIrq(9, false);
    chip.setIrq(9, true);
    expect(sent.length).toBe(1);
    expect(read(entry(9))).toBe(LEVEL | REMOTE_IRR | 0x59);
    chip.eoi(0x58);
    expect(sent.length).toBe(1);
    chip.eoi(0x59);
    expect(sent.length).toBe(2);
    chip.setIrq(9, false);
    chip.eoi(0x59);
    expect(sent.length).toBe(2);
    expect(read(entry(9))).toBe(LEVEL | 0x59);
  });

  it("sends a level that was asserted while masked", () => {
    const { chip, sent, write } = setup();
    write(entry(16), MASKED | LEVEL | 0x60);
    chip.setIrq(16, true);
    expect(sent).toEqual([]);
    write(entry(16), LEVEL | 0x60);
    expect(sent).toEqual([
      { vector: 0x60, deliveryMode: 0, destinationMode: "physical", destination: 0, trigger: "level" },
    ]);
  });

  it("drops Remote IRR when the pin turns to edge, as Linux ends a stuck interrupt", () => {
    const { chip, sent, read, write } = setup();
    write(entry(16), LEVEL | 0x60);
    chip.setIrq(16, true);
    write(entry(16), MASKED | 0x60);
    expect(read(entry(16))).toBe(MASKED | 0x60);
    write(entry(16), LEVEL | 0x60);
    expect(sent.length).toBe(2);
  });

  it("waits for no EOI of a level-triggered NMI", () => {
    const { chip, sent, read, write } = setup();
    write(entry(7), LEVEL | 0x0400);
    chip.setIrq(7, true);
    expect(sent.map((message) => message.deliveryMode)).toEqual([4]);
    expect(read(entry(7)) & REMOTE_IRR).toBe(0);
  });

  it("ignores pins and registers it does not have", () => {
    const { chip, sent, read, write } = setup();
    chip.setIrq(24, true);
    chip.setIrq(-1, true);
    write(0x40, 1);
    expect([read(0x40), read(0xff), sent.length]).toEqual([0, 0, 0]);
  });

  const pin = fc.oneof(fc.constantFrom(2, 9, 16), fc.nat(23));
  const value = fc.oneof(
    fc.constantFrom(0x41, LEVEL | 0x41, LEVEL | MASKED | 0x41, MASKED, 0x0741),
    fc.nat(0xffff_ffff),
  );
  const op = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("irq" as const), pin, level: fc.boolean() }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("write" as const), reg: pin.map(entry), value }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("write" as const), reg: fc.nat(255), value }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("eoi" as const),
        vector: fc.oneof(fc.constant(0x41), fc.nat(255)),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("read" as const),
        reg: fc.oneof(pin.map(entry), fc.nat(255)),
      }),
    },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = ({ chip, read, write, sent }: ReturnType<typeof setup>, o: Op): unknown => {
    sent.length = 0;
    switch (o.kind) {
      case "irq":
        chip.setIrq(o.pin, o.level);
        break;
      case "write":
        write(o.reg, o.value);
        break;
      case "eoi":
        chip.eoi(o.vector);
        break;
      case "read":
        return read(o.reg);
    }
    return [...sent];
  };

  it("restores to a chip that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = setup();
        for (const o of before) apply(a, o);
        const b = setup();
        b.chip.restore(JSON.parse(JSON.stringify(a.chip.save())) as IoapicStateV1);
        expect(b.sent).toEqual([]);
        for (const o of after) expect(apply(b, o)).toEqual(apply(a, o));
      }),
      { numRuns: 500 },
    );
  });

  it("resets to power-on from any state", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const { chip, ...rest } = setup();
        for (const o of ops) apply({ chip, ...rest }, o);
        chip.reset();
        expect(chip.save()).toEqual(setup().chip.save());
      }),
      { numRuns: 300 },
    );
  });
});
