import { FakeMachine } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { I8042, I8042StateV1 } from "./i8042.ts";
import { i8042 } from "./plugin.ts";

async function setup() {
  const machine = new FakeMachine();
  const device = (await machine.add(i8042())) as I8042;
  const { ports } = machine;
  const command = (value: number) => {
    ports.out(0x64, value);
  };
  const data = (value: number) => {
    ports.out(0x60, value);
  };
  /** Everything there is to read. */
  const drain = () => {
    const bytes: number[] = [];
    while ((ports.in(0x64) & 1) !== 0 && bytes.length < 100) bytes.push(ports.in(0x60));
    return bytes;
  };
  return { machine, device, ports, command, data, drain, irq: () => machine.gsi(1) };
}

describe("I8042", () => {
  it("passes the self tests", async () => {
    const { command, drain, ports } = await setup();
    command(0xaa);
    expect(ports.in(0x64) & 0x0d).toBe(0x0d); // full, system, last was a command
    expect(drain()).toEqual([0x55]);
    command(0xab);
    expect(drain()).toEqual([0]);
  });

  it("keeps its command byte, as Linux checks", async () => {
    const { command, data, drain } = await setup();
    command(0x20);
    const [ctr] = drain();
    expect(ctr).toBe(0x65);
    command(0x60);
    data(0x74);
    command(0x20);
    expect(drain()).toEqual([0x74]);
  });

  it("has no auxiliary port: its loop byte comes back as the keyboard's and its test fails", async () => {
    const { command, data, drain, ports } = await setup();
    command(0xd3);
    data(0x5a);
    expect(ports.in(0x64) & 0x21).toBe(0x01);
    expect(drain()).toEqual([0x5a]);
    command(0xa9);
    expect(drain()).toEqual([0x01]);
  });

  it("has a keyboard that answers what Linux asks", async () => {
    const { command, data, drain } = await setup();
    const ask = (...bytes: number[]) => {
      for (const byte of bytes) data(byte);
      return drain();
    };
    expect(ask(0xf2)).toEqual([0xfa, 0xab, 0x41]);
    expect(ask(0xff)).toEqual([0xfa, 0xaa]);
    expect(ask(0xed, 0x02)).toEqual([0xfa, 0xfa]);
    expect(ask(0xf3, 0x00)).toEqual([0xfa, 0xfa]);
    expect(ask(0xf0, 0x00)).toEqual([0xfa, 0xfa, 0x41]);
    expect(ask(0xee)).toEqual([0xee]);
    expect(ask(0xf4)).toEqual([0xfa]);
    expect(ask(0x01)).toEqual([0xfe]);
    command(0x60);
    data(0x25);
    expect(ask(0xf2)).toEqual([0xfa, 0xab, 0x83]);
  });

  it("gives every byte an edge of its own", async () => {
    const { machine, data, ports, irq } = await setup();
    data(0xff);
    expect(irq()).toBe(true);
    expect(machine.lines[0]?.line.edges).toBe(1);
    ports.in(0x60);
    expect([irq(), machine.lines[0]?.line.edges]).toEqual([true, 2]);
    ports.in(0x60);
    expect(irq()).toBe(false);
  });

  it("is silent with its interrupt off", async () => {
    const { command, data, irq } = await setup();
    command(0x60);
    data(0x44);
    data(0xff);
    expect(irq()).toBe(false);
  });

  it.each([
    ["pulse 0xFE", [[0x64, 0xfe]]],
    [
      "the output port",
      [
        [0x64, 0xd1],
        [0x60, 0xfe],
      ],
    ],
    ["port 0x92", [[0x92, 0x03]]],
  ] as const)("resets by %s", async (_how, writes) => {
    const { machine, ports } = await setup();
    for (const [port, value] of writes) ports.out(port, value);
    expect(machine.power.requests).toEqual(["reset"]);
  });

  it("does not reset otherwise", async () => {
    const { machine, ports } = await setup();
    for (const [port, value] of [
      [0x64, 0xff],
      [0x64, 0xd1],
      [0x60, 0xdf],
      [0x92, 0x02],
    ] as const) {
      ports.out(port, value);
    }
    expect(machine.power.requests).toEqual([]);
    expect(ports.in(0x92)).toBe(0x02);
  });

  it("stores the A20 gate in both places", async () => {
    const { command, data, drain, ports } = await setup();
    command(0xd1);
    data(0xdd);
    command(0xd0);
    expect(drain()).toEqual([0x01]);
    ports.out(0x92, 0);
    expect(ports.in(0x92)).toBe(0);
  });

  const op = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        port: fc.constant(0x64),
        value: fc.oneof(
          fc.constantFrom(0x20, 0x60, 0xaa, 0xab, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xfe),
          fc.nat(255),
        ),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        port: fc.constant(0x60),
        value: fc.oneof(fc.constantFrom(0xff, 0xf2, 0xf0, 0xed, 0x01), fc.nat(255)),
      }),
    },
    { weight: 1, arbitrary: fc.record({ port: fc.constant(0x92), value: fc.nat(3) }) },
    { weight: 3, arbitrary: fc.record({ port: fc.constantFrom(0x60, 0x64, 0x92), value: fc.constant(-1) }) },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = ({ machine, ports, irq }: Awaited<ReturnType<typeof setup>>, o: Op): unknown => {
    machine.power.requests.length = 0;
    let value = 0;
    if (o.value < 0) value = ports.in(o.port);
    else ports.out(o.port, o.value);
    return [value, irq(), [...machine.power.requests]];
  };

  it("restores to a controller that answers every later access alike, and resets to power-on", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op), fc.array(op), async (before, after) => {
        const a = await setup();
        for (const o of before) apply(a, o);
        const b = await setup();
        b.device.restore(JSON.parse(JSON.stringify(a.device.save())) as I8042StateV1);
        expect([b.irq(), b.machine.lines[0]?.line.edges]).toEqual([a.irq(), 0]);
        for (const o of after) expect(apply(b, o)).toEqual(apply(a, o));
        a.device.reset();
        expect([a.device.save(), a.irq()]).toEqual([(await setup()).device.save(), false]);
      }),
      { numRuns: 300 },
    );
  });
});
