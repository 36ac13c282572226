import { FakeClock, FakeLine, FakeMachine, FakePower } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AcpiPm, type AcpiPmStateV1 } from "./acpi-pm.ts";
import { acpiPm } from "./plugin.ts";

const PM = 0x600;
const HZ = 3_579_545;

async function setup() {
  const machine = new FakeMachine();
  const pm = (await machine.add(acpiPm())) as AcpiPm;
  return { machine, pm, ports: machine.ports, clock: machine.clock, sci: () => machine.gsi(9) };
}

describe("AcpiPm", () => {
  it("counts 3.579545 MHz in 24 bits", async () => {
    const { ports, clock } = await setup();
    clock.advanceTo(1e9);
    expect(ports.in(PM + 8, 4)).toBe(HZ);
    clock.advanceTo(10e9);
    expect(ports.in(PM + 8, 4)).toBe((10 * HZ) % 2 ** 24);
    expect(ports.in(PM + 9)).toBe(((10 * HZ) >> 8) & 0xff);
  });

  it("counts in 32 bits where it is told to", () => {
    const clock = new FakeClock();
    const pm = new AcpiPm({ clock, sci: new FakeLine(), power: new FakePower(), timerBits: 32 });
    clock.advanceTo(10e9);
    expect(pm.read(8, 4)).toBe(10 * HZ);
    clock.advanceTo(2000e9);
    expect(pm.read(8, 4)).toBe((2000 * HZ) % 2 ** 32);
  });

  it("turns ACPI on and off by the SMI command port", async () => {
    const { ports } = await setup();
    ports.out(0xb2, 0xf1);
    expect(ports.in(PM + 4, 2)).toBe(1);
    ports.out(0xb2, 0xf0);
    expect(ports.in(PM + 4, 2)).toBe(0);
  });

  it("powers off on S5, and on no other sleep type", async () => {
    const { machine, ports } = await setup();
    ports.out(PM + 4, (1 << 10) | 0x2001, 2);
    expect(machine.power.requests).toEqual([]);
    expect(ports.in(PM + 4, 2)).toBe((1 << 10) | 1);
    ports.out(PM + 4, (5 << 10) | 1, 2);
    expect(machine.power.requests).toEqual([]);
    ports.out(PM + 4, (5 << 10) | 0x2001, 2);
    expect(machine.power.requests).toEqual(["powerOff"]);
  });

  it("interrupts for the power button once enabled, until the status is written with ones", async () => {
    const { pm, ports, sci } = await setup();
    pm.pressPowerButton();
    expect([ports.in(PM, 2), sci()]).toEqual([0x100, false]);
    ports.out(PM + 2, 0x100, 2);
    expect(sci()).toBe(false);
    ports.out(0xb2, 0xf1);
    expect(sci()).toBe(true);
    ports.out(PM, 0x001, 2);
    expect(sci()).toBe(true);
    ports.out(PM, 0x100, 2);
    expect([ports.in(PM, 2), sci()]).toEqual([0, false]);
  });

  it("interrupts for general-purpose events", async () => {
    const { pm, ports, sci } = await setup();
    ports.out(0xb2, 0xf1);
    ports.out(PM + 0x22, 0x04);
    pm.raiseGpe(2);
    pm.raiseGpe(9);
    expect([ports.in(PM + 0x20, 4), sci()]).toEqual([0x0004_0204, true]);
    ports.out(PM + 0x20, 0x04);
    expect([ports.in(PM + 0x20, 2), sci()]).toEqual([0x0200, false]);
  });

  it("interrupts on every change of the timer's highest bit", async () => {
    const { ports, clock, sci } = await setup();
    ports.out(0xb2, 0xf1);
    ports.out(PM + 2, 1, 2);
    const half = Math.ceil((2 ** 23 * 1e9) / HZ);
    clock.advanceTo(half - 1);
    expect(sci()).toBe(false);
    clock.advanceTo(half);
    expect(sci()).toBe(true);
    ports.out(PM, 1, 2);
    expect(sci()).toBe(false);
    clock.advanceTo(Math.ceil((2 ** 24 * 1e9) / HZ));
    expect(sci()).toBe(true);
  });

  it("keeps reserved bits at zero and serves byte accesses", async () => {
    const { ports } = await setup();
    ports.out(PM + 2, 0xffff, 2);
    ports.out(PM + 4, 0xdfff, 2); // all but SLP_EN
    expect([ports.in(PM + 2, 2), ports.in(PM + 4, 2), ports.in(PM + 3), ports.in(PM + 6, 2)]).toEqual([
      0x0721, 0x1c03, 0x07, 0,
    ]);
  });

  it("describes itself to the firmware", async () => {
    const { machine } = await setup();
    expect(machine.firmware).toEqual([
      {
        kind: "acpiPm",
        pm1EventPort: 0x600,
        pm1ControlPort: 0x604,
        pmTimerPort: 0x608,
        gpe0Port: 0x620,
        sciGsi: 9,
        smiCommandPort: 0xb2,
        resetPort: 0xcf9,
        resetValue: 6,
        s5SleepType: 5,
      },
    ]);
  });

  const op = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("out" as const),
        port: fc.constantFrom(PM, PM + 2, PM + 4, PM + 0x20, PM + 0x22, 0xb2),
        value: fc.oneof(fc.constantFrom(1, 0x100, 0x101, 0xf1, 0xf0, 0xffff), fc.nat(0xffff)),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ns: fc.nat(5e9) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("button" as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("gpe" as const), gpe: fc.nat(15) }) },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  type Setup = Awaited<ReturnType<typeof setup>>;
  const apply = ({ pm, ports, clock, sci, machine }: Setup, o: Op): unknown => {
    if (o.kind === "out") ports.out(o.port, o.value, o.port === 0xb2 ? 1 : 2);
    else if (o.kind === "wait") clock.advance(o.ns);
    else if (o.kind === "button") pm.pressPowerButton();
    else pm.raiseGpe(o.gpe);
    return [
      sci(),
      ports.in(PM, 4),
      ports.in(PM + 4, 2),
      ports.in(PM + 0x20, 4),
      clock.nextDeadlineNs(),
      [...machine.power.requests],
    ];
  };

  it("restores to a block that answers every later access alike, and resets to power-on", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op), fc.array(op), async (before, after) => {
        const a = await setup();
        for (const o of before) apply(a, o);
        const b = await setup();
        b.clock.jump(a.clock.nowNs());
        b.pm.restore(JSON.parse(JSON.stringify(a.pm.save())) as AcpiPmStateV1);
        expect([b.sci(), b.machine.lines[0]?.line.edges]).toEqual([a.sci(), 0]);
        a.machine.power.requests.length = 0;
        for (const o of after) expect(apply(b, o)).toEqual(apply(a, o));
        a.pm.reset();
        const fresh = await setup();
        expect({ ...a.pm.save(), syncedTick: 0 }).toEqual(fresh.pm.save());
        expect([a.sci(), a.clock.nextDeadlineNs()]).toEqual([false, Infinity]);
      }),
      { numRuns: 150 },
    );
  });
});
