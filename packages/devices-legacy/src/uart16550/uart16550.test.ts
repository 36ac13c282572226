import { FakeBus, FakeCharBackend, FakeLine, FakeMachine, FakePorts } from "@northbridge/sdk/testing";
import { Console, type HostEndOptions, HostEnds } from "@northbridge/sdk";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { serial } from "./plugin.ts";
import { Uart16550, type Uart16550Deps, type Uart16550StateV1 } from "./uart16550.ts";

// Repeated from the data sheet, so that a wrong constant cannot agree with itself.
const [DATA, IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 2, 3, 4, 5, 6, 7] as const;
const RTS = 0x02;
const COM1 = 0x3f8;

function setup(options: Pick<Uart16550Deps, "flowControl"> = {}) {
  const irq = new FakeLine();
  const host = new FakeCharBackend();
  const uart = new Uart16550({
    ...options,
    irq,
    tx: host,
    onRoom: () => {
      host.resume();
    },
  });
  const bus = new FakeBus();
  bus.map({ name: "com1", base: COM1, length: 8, widest: 1 }, uart);
  const ports = new FakePorts(bus);
  return {
    irq,
    host,
    uart,
    in: (reg: number) => ports.in(COM1 + reg),
    out: (reg: number, value: number) => {
      ports.out(COM1 + reg, value);
    },
    connect: () => {
      host.connect((bytes) => uart.receive(bytes));
    },
  };
}
type Port = ReturnType<typeof setup>;
const bytes = (text: string) => Uint8Array.from(text, (char) => char.charCodeAt(0));

describe("Uart16550", () => {
  it("has the data sheet's reset values after power-on", () => {
    const com = setup();
    expect([IER, IIR, LCR, MCR, LSR, SCR].map(com.in)).toEqual([0, 0x01, 0, 0, 0x60, 0]);
    expect(com.in(MSR)).toBe(0xb0);
    expect(com.irq.level).toBe(false);
  });

  it("sends what the guest writes", () => {
    const com = setup();
    for (const b of bytes("ok\n")) com.out(DATA, b);
    expect(com.host.text).toBe("ok\n");
  });

  it("aliases the divisor onto DATA and IER while DLAB is set", () => {
    const com = setup();
    com.out(LCR, 0x80);
    com.out(DATA, 0x34);
    com.out(IER, 0x12);
    expect([com.in(DATA), com.in(IER)]).toEqual([0x34, 0x12]);
    com.out(LCR, 0);
    expect(com.in(IER)).toBe(0);
    expect(com.host.bytes).toEqual([]);
  });

  it("raises THR-empty when enabled and drops it on an IIR read", () => {
    const com = setup();
    com.out(MCR, 0x08);
    com.out(IER, 0x02);
    expect(com.irq.level).toBe(true);
    expect(com.in(IIR)).toBe(0x02);
    expect(com.irq.level).toBe(false);
    expect(com.in(LSR) & 0x20).toBe(0x20); // status survives the acknowledge
  });

  it("makes an edge for each character of a driver that never reads IIR", () => {
    const com = setup();
    com.out(MCR, 0x08);
    com.out(IER, 0x02);
    for (const b of bytes("abc")) com.out(DATA, b);
    expect([com.irq.edges, com.irq.level]).toEqual([4, true]); // the first when it was enabled
  });

  it("keeps the line low while OUT2 is clear", () => {
    const com = setup();
    com.out(MCR, RTS);
    com.out(IER, 0x01);
    com.uart.receive(bytes("x"));
    expect(com.irq.level).toBe(false);
    com.out(MCR, 0x08 | RTS);
    expect(com.irq.level).toBe(true);
  });

  it("reports causes in priority order", () => {
    const com = setup();
    com.out(MCR, 0x10 | 0x01);
    com.out(IER, 0x0f);
    com.out(DATA, 1);
    com.out(DATA, 2); // overruns the one-byte holding register
    expect(com.in(IIR)).toBe(0x06);
    expect(com.in(LSR)).toBe(0x63);
    expect(com.in(IIR)).toBe(0x04);
    com.in(DATA);
    expect(com.in(IIR)).toBe(0x02);
    expect(com.in(IIR)).toBe(0x00);
    com.in(MSR);
    expect(com.in(IIR)).toBe(0x01);
  });

  it.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])("reports data at the trigger level of FCR %i and a time-out below it", (fcr, level) => {
    const com = setup();
    com.out(FCR, fcr);
    com.out(IER, 0x01);
    com.out(MCR, RTS);
    com.uart.receive(new Uint8Array(level));
    expect(com.in(IIR)).toBe(0xc4);
    com.in(DATA);
    expect(com.in(IIR)).toBe(level === 1 ? 0xc1 : 0xcc);
  });

  it("tells the host how much input fits", () => {
    const com = setup();
    com.out(MCR, RTS);
    expect(com.uart.receive(bytes("ab"))).toBe(1);
    com.out(FCR, 0x03);
    expect(com.uart.receive(new Uint8Array(20))).toBe(16);
    expect(com.uart.receive(bytes("z"))).toBe(0);
  });

  it("loses no byte of input that comes faster than the guest reads", () => {
    const com = setup();
    com.connect();
    com.out(FCR, 0x07);
    com.out(MCR, RTS);
    const sent = Uint8Array.from({ length: 1000 }, (_, i) => i & 0xff);
    com.host.type(sent);
    const got: number[] = [];
    while ((com.in(LSR) & 1) !== 0) got.push(com.in(DATA));
    expect(got).toEqual([...sent]);
    expect(com.host.waiting).toBe(0);
    expect(com.host.resumes).toBeLessThanOrEqual(Math.ceil(1000 / 16)); // a call per FIFO, not per byte
  });

  it("holds host input back during loopback and takes it afterwards", () => {
    const com = setup();
    com.connect();
    com.out(MCR, 0x10 | RTS);
    com.host.type("x");
    expect(com.in(LSR) & 1).toBe(0);
    com.out(MCR, RTS);
    expect(com.in(DATA)).toBe(0x78);
  });

  it("leaves input with the host until the driver that resets the FIFO asserts RTS", () => {
    const com = setup();
    com.connect();
    com.host.type("early");
    com.out(FCR, 0x07);
    expect(com.in(LSR) & 1).toBe(0);
    com.out(MCR, RTS);
    expect(String.fromCharCode(...Array.from({ length: 5 }, () => com.in(DATA)))).toBe("early");
  });

  it("takes input without RTS where there is no flow control", () => {
    const com = setup({ flowControl: "none" });
    expect(com.uart.receive(bytes("x"))).toBe(1);
    expect(com.in(DATA)).toBe(0x78);
  });

  it("loops modem outputs back to the modem inputs, with deltas", () => {
    const com = setup();
    com.out(MCR, 0x10 | 0x0a);
    expect(com.in(MSR)).toBe(0x90 | 0x02); // CTS, DCD; DSR fell
    expect(com.in(MSR)).toBe(0x90);
    com.out(MCR, 0x10 | 0x04);
    expect(com.in(MSR)).toBe(0x40 | 0x09); // a rising RI is no delta
    com.out(MCR, 0x10);
    expect(com.in(MSR)).toBe(0x04);
  });

  it("reads reserved bits as zero", () => {
    const com = setup();
    com.out(IER, 0xff);
    com.out(MCR, 0xff);
    expect([com.in(IER), com.in(MCR)]).toEqual([0x0f, 0x1f]);
  });
});

/** The steps of Linux's 8250 driver, from its observable behaviour: what it must see to call this a 16550A. */
describe("Uart16550 under Linux's autodetection", () => {
  it("has an IER of four bits", () => {
    const com = setup();
    com.out(IER, 0);
    expect(com.in(IER) & 0x0f).toBe(0);
    com.out(IER, 0x0f);
    expect(com.in(IER) & 0x0f).toBe(0x0f);
    com.out(IER, 0x40); // XScale's unit enable
    expect(com.in(IER) & 0x40).toBe(0);
  });

  it("answers the loopback test", () => {
    const com = setup();
    com.out(MCR, 0x1a);
    expect(com.in(MSR) & 0xf0).toBe(0x90);
  });

  it("keeps the scratch register", () => {
    const com = setup();
    for (const value of [0xa5, 0x5a]) {
      com.out(SCR, value);
      expect(com.in(SCR)).toBe(value);
    }
  });

  it("has a FIFO, no EFR and no 64-byte mode", () => {
    const com = setup();
    com.out(LCR, 0);
    com.out(FCR, 0x01);
    expect(com.in(IIR) >> 6).toBe(3);
    com.out(LCR, 0x80);
    expect(com.in(2)).not.toBe(0); // EFR of a 16650 would read 0
    com.out(LCR, 0xbf);
    expect(com.in(2)).not.toBe(0);
    com.out(LCR, 0);
    com.out(FCR, 0x21);
    expect(com.in(IIR) >> 5).toBe(6);
    com.out(LCR, 0x80);
    com.out(FCR, 0x21);
    expect(com.in(IIR) >> 5).toBe(6);
  });

  it("has a FIFO of 16 by the loopback measurement", () => {
    const com = setup();
    com.out(FCR, 0x07);
    com.out(MCR, 0x10);
    for (let i = 0; i < 256; i++) com.out(DATA, i);
    let count = 0;
    while ((com.in(LSR) & 1) !== 0 && count < 256) expect(com.in(DATA)).toBe(count++);
    expect(count).toBe(16);
    expect(com.host.bytes).toEqual([]);
  });

  it("raises THR-empty again each time it is enabled", () => {
    const com = setup();
    for (let i = 0; i < 2; i++) {
      com.out(IER, 0x02);
      expect(com.in(IIR)).toBe(0x02);
      com.out(IER, 0);
      expect(com.in(IIR)).toBe(0x01);
    }
  });
});

describe("Uart16550 state", () => {
  // Uniform bytes rarely enable an interrupt: bias toward the values that do.
  const interesting = fc.constantFrom(RTS, 0x0f, 0x08, 0x18, 0x01, 0xc1, 0x80, 0x10);
  const op = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("out" as const),
        reg: fc.nat(7),
        value: fc.oneof(interesting, fc.nat(255)),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("in" as const), reg: fc.nat(7) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("rx" as const), data: fc.uint8Array({ maxLength: 20 }) }),
    },
  );
  type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;
  const apply = (com: Port, o: Op): number => {
    if (o.kind === "in") return com.in(o.reg);
    if (o.kind === "rx") return com.uart.receive(o.data);
    com.out(o.reg, o.value);
    return 0;
  };

  it("restores to a device that answers every later access alike", () => {
    fc.assert(
      fc.property(fc.array(op), fc.array(op), (before, after) => {
        const a = setup();
        for (const o of before) apply(a, o);
        const b = setup();
        b.uart.restore(JSON.parse(JSON.stringify(a.uart.save())) as Uart16550StateV1);
        expect(b.irq.level).toBe(a.irq.level);
        expect(b.irq.edges).toBe(0); // a restore is not an interrupt
        for (const o of after) {
          expect(apply(b, o)).toEqual(apply(a, o));
          expect(b.irq.level).toBe(a.irq.level);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("resets to power-on from any state", () => {
    fc.assert(
      fc.property(fc.array(op), (ops) => {
        const com = setup();
        for (const o of ops) apply(com, o);
        com.uart.reset();
        expect(com.uart.save()).toEqual(setup().uart.save());
        expect(com.irq.level).toBe(false);
      }),
      { numRuns: 500 },
    );
  });

  it("refuses a snapshot its FIFO cannot hold, and a newer one", () => {
    const { uart } = setup();
    expect(() => {
      uart.restore({ ...uart.save(), rx: Array<number>(17).fill(0) });
    }).toThrow(/uart16550: cannot restore: rx: .*17/);
    expect(() => {
      uart.restore({ ...uart.save(), version: 2 } as never);
    }).toThrow(/uart16550: cannot restore: version/);
  });

  it("takes input again after a restore", () => {
    const com = setup();
    com.connect();
    com.out(MCR, RTS);
    const empty = com.uart.save();
    com.host.type("abc");
    expect(com.host.waiting).toBe(2);
    com.uart.restore(empty);
    expect(com.host.waiting).toBe(2); // the interrupt controllers may not be restored yet
    com.uart.resume();
    expect(com.host.waiting).toBe(1);
    expect(com.in(DATA)).toBe(0x62);
  });
});

describe("serial()", () => {
  it("stands at com1 on IRQ 4 by default and speaks with the console", async () => {
    const host = new FakeCharBackend();
    const machine = new FakeMachine().provide(Console, host);
    await machine.add(serial());
    machine.ports.out(COM1, 0x41);
    expect(host.text).toBe("A");
    machine.ports.out(COM1 + MCR, 0x08 | RTS);
    machine.ports.out(COM1 + IER, 0x01);
    host.type("z");
    expect(machine.gsi(4)).toBe(true);
    expect(machine.ports.in(COM1)).toBe(0x7a);
    expect(machine.gsi(4)).toBe(false);
  });

  it("splits wide accesses at the bus, not in the device", async () => {
    const machine = new FakeMachine().provide(Console, new FakeCharBackend());
    await machine.add(serial());
    expect(machine.ports.in(COM1 + LCR, 4)).toBe(0xb060_0000);
  });

  it("speaks with the host end that it is connected to, and not with the console", async () => {
    const [host, other] = [new FakeCharBackend(), new FakeCharBackend()];
    const char = (options: HostEndOptions): Promise<FakeCharBackend> =>
      options.kind === "ring" ? Promise.resolve(other) : Promise.reject(new Error(options.kind));
    const machine = new FakeMachine()
      .provide(Console, host)
      .provide(HostEnds, { char } as Partial<HostEnds> as HostEnds);
    await machine.add(serial({ at: "com3", to: { kind: "ring" } }));
    machine.ports.out(0x3e8 + MCR, RTS);
    machine.ports.out(0x3e8, 0x21);
    other.type("x");
    expect([other.text, host.text, machine.ports.in(0x3e8)]).toEqual(["!", "", 0x78]);
  });

  it("refuses a place that does not exist", async () => {
    const machine = new FakeMachine().provide(Console, new FakeCharBackend());
    await expect(machine.add(serial({ at: "com9" as never }))).rejects.toThrow(/com9/);
  });

  it("leaves the console to com1", async () => {
    const machine = new FakeMachine().provide(Console, new FakeCharBackend());
    await expect(machine.add(serial({ at: "com2" }))).rejects.toThrow(
      "expected a character back end, as { kind: socket, path: com.sock }, or { kind: console } for com1's",
    );
  });
});
