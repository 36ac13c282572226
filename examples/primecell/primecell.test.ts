import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { Console } from "@northbridge/sdk";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { QtestMachine } from "@northbridge/sdk/host";
import { FakeCharBackend, type TestBench, testBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { pl011, registers as uart } from "./pl011.ts";
import { pl061, registers as gpio, Wires } from "./pl061.ts";

/** What is on the pins of the GPIO. */
class Pins implements Wires {
  levels = 0;
  outputs = 0;
  #listener: (levels: number) => void = () => undefined;

  onOutput(levels: number, outputs: number): void {
    this.levels = levels;
    this.outputs = outputs;
  }

  connect(listener: (levels: number) => void): void {
    this.#listener = listener;
  }

  put(levels: number): void {
    this.#listener(levels);
  }
}

async function uartBench() {
  const end = new FakeCharBackend();
  const bench = await testBench(pl011(), {
    registers: uart,
    prepare: (machine) => void machine.provide(Console, end),
  });
  return { bench, end };
}

async function gpioBench() {
  const pins = new Pins();
  const bench = await testBench(pl061(), {
    registers: gpio,
    prepare: (machine) => void machine.provide(Wires, pins),
  });
  return { bench, pins };
}

/** QEMU may take that long for what it must do, on a loaded host. */
const waitUntil = (condition: () => boolean | Promise<boolean>): Promise<boolean> =>
  vi.waitUntil(condition, { timeout: 30_000, interval: 1 });

describe("pl011", () => {
  it("sends, receives into its FIFO, and says when nothing more comes", async () => {
    const { bench, end } = await uartBench();
    bench.regs.LCR_H.write({ FEN: 1, WLEN: "BITS_8" });
    bench.regs.IBRD.write(13);
    bench.regs.CR.write({ UARTEN: 1, TXE: 1, RXE: 1 });
    bench.regs.IMSC.write({ RX: 1, RT: 1 });
    for (const letter of "ok") bench.regs.DR.write(letter.charCodeAt(0));
    expect(end.text).toBe("ok");
    end.type("0123456789abcdefXYZ");
    expect([end.waiting, bench.regs.FR.fields().RXFF, bench.interrupts.level(11)]).toEqual([3, 1, true]);
    let read = "";
    while (bench.regs.FR.fields().RXFE === 0) read += String.fromCharCode(bench.regs.DR.read());
    expect([read, bench.interrupts.level(11)]).toEqual(["0123456789abcdefXYZ", false]);
    end.type("!");
    expect(bench.regs.RIS.fields().RX).toBe(0);
    bench.clock.advance(277_000);
    expect([bench.interrupts.level(11), bench.clock.nextDeadlineNs()]).toEqual([false, 277_334]);
    bench.clock.advance(1000);
    expect([bench.regs.MIS.fields().RT, bench.interrupts.level(11)]).toEqual([1, true]);
  });

  deviceConformance(
    { describe, it },
    {
      create: () => pl011(),
      registers: uart,
      code: "pl011()",
      // Nothing is typed: what a host end has given is not given again to a device that is restored or reset.
      prepare: (machine) => {
        machine.provide(Console, new FakeCharBackend());
      },
    },
  );
});

describe("pl061", () => {
  it("drives the outputs that an access's address is about, and latches edges", async () => {
    const { bench, pins } = await gpioBench();
    bench.regs.DIR.write(0x0f);
    bench.regs.DATA[0x05]?.write(0xff);
    expect([pins.levels, bench.regs.DATA[0xff]?.read()]).toEqual([0x05, 0x05]);
    bench.regs.IE.write(0x30);
    bench.regs.IEV.write(0x10);
    pins.put(0x30);
    expect([bench.regs.RIS.read(), bench.regs.MIS.read(), bench.interrupts.level(12)]).toEqual([
      0x10,
      0x10,
      true,
    ]);
    pins.put(0x10);
    bench.regs.IC.write(0x10);
    expect([bench.regs.RIS.read(), bench.interrupts.level(12)]).toEqual([0x20, true]);
  });

  it("drives nothing after a reset, and what it drove where it is restored", async () => {
    const { bench, pins } = await gpioBench();
    bench.regs.DIR.write(0x0f);
    bench.regs.DATA[0xff]?.write(0x05);
    const state: unknown = bench.device.save?.();
    bench.device.reset?.();
    expect([pins.levels, pins.outputs]).toEqual([0, 0]);
    const other = await gpioBench();
    other.bench.device.restore?.(state);
    expect([other.pins.levels, other.pins.outputs]).toEqual([0x05, 0x0f]);
  });

  deviceConformance({ describe, it }, { create: () => pl061(), registers: gpio, code: "pl061()" });
});

const QEMU = "qemu-system-arm";
const UART0 = 0x101f_1000;
const GPIO0 = 0x101e_4000;
/** Level of interrupt inputs (ARM PrimeCell VIC, PL190, VICRAWINTR). */
const VICRAWINTR = 0x1014_0008;
const [VIC_GPIO0, VIC_UART0] = [6, 12];

/** A Versatile/PB whose processor does nothing, and the other end of its first serial port. */
async function versatile(): Promise<{ qemu: QtestMachine; line: Socket }> {
  const server = createServer();
  const connected = new Promise<Socket>((resolve) => void server.once("connection", resolve));
  const started = QtestMachine.start(QEMU, async (directory) => {
    const path = join(directory, "uart.sock");
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    const machine = ["-M", "versatilepb", "-S", "-nodefaults"];
    return [...machine, "-chardev", `socket,id=uart,path=${path}`, "-serial", "chardev:uart"];
  });
  // One that did not start never connects.
  const qemu = await started.finally(() => void server.close());
  const line = await connected;
  line.on("error", () => undefined);
  return { qemu, line };
}

const interrupts = async (qemu: QtestMachine, input: number): Promise<boolean> =>
  (((await qemu.read(VICRAWINTR, 4)) >>> input) & 1) === 1;

type Write<R extends string> = { readonly op: "write"; readonly register: R; readonly value: number };
const writes = <R extends string>(
  values: Readonly<Record<R, fc.Arbitrary<number>>>,
): fc.Arbitrary<Write<R>> =>
  fc.oneof(
    ...Object.entries<fc.Arbitrary<number>>(values).map(([register, value]) =>
      value.map((number): Write<R> => ({ op: "write", register: register as R, value: number })),
    ),
  );
const byte = fc.oneof(fc.constantFrom(0, 1, 0x80, 0xff), fc.nat(0xff));

describe.skipIf(!QtestMachine.isInstalled(QEMU))("beside QEMU's own (needs qemu-system-arm)", () => {
  it("the UART answers every driver as that does", async () => {
    const { qemu, line } = await versatile();
    await using _qemu = qemu;
    let heard: number[] = [];
    line.on("data", (bytes: Buffer) => heard.push(...bytes));
    const shared = ["RSR_ECR", "FR", "IBRD", "FBRD", "LCR_H", "CR", "IFLS", "IMSC", "RIS", "MIS"] as const;
    const names = [...shared, "ILPR", "DR"] as const;
    const enabled = fc.constantFrom(0x301, 0xb01, 0xfb01);
    const program = fc.array(
      fc.oneof(
        {
          weight: 6,
          arbitrary: writes({
            DR: byte,
            RSR_ECR: byte,
            ILPR: byte,
            IBRD: fc.nat(0xffff),
            FBRD: fc.nat(0x3f),
            // Words of eight bits: QEMU's sends all of a byte always.
            LCR_H: fc.constantFrom(0x60, 0xe6, 0x6e),
            CR: enabled,
            IFLS: fc.constantFrom(0x00, 0x12, 0x24),
            IMSC: fc.nat(0x7ff),
            ICR: fc.nat(0x7ff),
            DMACR: fc.constant(0),
          }),
        },
        {
          weight: 4,
          arbitrary: fc.constantFrom(...names).map((register) => ({ op: "read" as const, register })),
        },
        { weight: 2, arbitrary: byte.map((value) => ({ op: "type" as const, value })) },
      ),
      { maxLength: 40 },
    );
    /** QEMU's has no receive timeout, and raises RX for every byte whatever IFLS says. */
    const blind = (isFifo: boolean): number => (isFifo ? 0x50 : 0x40);
    await fc.assert(
      fc.asyncProperty(fc.boolean(), program, async (isFifo, steps) => {
        const { bench, end } = await uartBench();
        heard = [];
        const at = (register: keyof typeof uart.specs): number => UART0 + uart.specs[register].offset;
        const set = async (register: keyof typeof uart.specs, value: number): Promise<void> => {
          bench.mmio.write(0xfe81_0000 + uart.specs[register].offset, 4, value);
          await qemu.write(at(register), 4, value);
        };
        // QEMU's keeps what the program before left: both begin with an empty FIFO and nothing pending.
        await set("LCR_H", isFifo ? 0x70 : 0x60);
        await waitUntil(async () => {
          await qemu.read(at("DR"), 4);
          return ((await qemu.read(at("FR"), 4)) & 0x10) !== 0;
        });
        for (const [register, value] of [
          ...(["ILPR", "IBRD", "FBRD", "RSR_ECR", "IMSC"] as const).map((name) => [name, 0] as const),
          ["IFLS", 0x12],
          ["CR", 0x301],
          ["ICR", 0x7ff],
        ] as const)
          await set(register, value);
        let sent = 0;
        for (const [index, step] of steps.entries()) {
          const where = `step ${index}: ${JSON.stringify(step)}`;
          if (step.op === "write") {
            const fifo = step.register === "LCR_H" && isFifo ? 0x10 : 0;
            await set(step.register, step.value | fifo);
            if (step.register === "DR") sent++;
          } else if (step.op === "type") {
            // One byte, or all that fit: what comes between cannot be seen from outside.
            if (bench.regs.FR.fields().RXFE === 0) continue;
            const bytes = new Uint8Array(isFifo && step.value % 2 === 1 ? 16 : 1).fill(step.value);
            end.type(bytes);
            line.write(bytes);
            const flags = bench.regs.FR.read() & 0x50;
            await waitUntil(async () => {
              const found = await qemu.read(at("FR"), 4);
              return (found & 0x50) === flags;
            });
          } else if (step.register !== "DR" || bench.regs.FR.fields().RXFE === 0) {
            // What an empty FIFO gives is nobody's promise.
            const mask = step.register === "RIS" || step.register === "MIS" ? ~blind(isFifo) : ~0;
            const ours = bench.mmio.read(0xfe81_0000 + uart.specs[step.register].offset, 4);
            expect(ours & mask, where).toBe((await qemu.read(at(step.register), 4)) & mask);
          }
          if ((bench.regs.IMSC.read() & blind(isFifo)) === 0)
            expect(bench.interrupts.level(11), `interrupt after ${where}`).toBe(
              await interrupts(qemu, VIC_UART0),
            );
        }
        await waitUntil(() => heard.length >= sent);
        expect(heard).toEqual(end.bytes);
      }),
      { numRuns: 40 },
    );
    line.destroy();
  });

  it("the GPIO answers every driver as that does", async () => {
    const { qemu, line } = await versatile();
    await using _qemu = qemu;
    const object = await qemu.objectOf("pl061");
    const mode = fc.record({ DIR: byte, IBE: byte, IEV: byte });
    const program = fc.array(
      fc.oneof(
        writes({ IE: byte, IC: byte, AFSEL: byte }),
        fc.record({ op: fc.constant("data" as const), mask: byte, value: byte }),
        fc.record({ op: fc.constant("put" as const), value: byte }),
        fc.record({ op: fc.constant("look" as const), mask: byte }),
      ),
      { maxLength: 40 },
    );
    await fc.assert(
      fc.asyncProperty(mode, program, async (modes, steps) => {
        const { bench, pins } = await gpioBench();
        const set = async (offset: number, value: number): Promise<void> => {
          bench.mmio.write(0xfe82_0000 + offset, 4, value);
          await qemu.write(GPIO0 + offset, 4, value);
        };
        const both = async (offset: number): Promise<readonly [number, number]> => [
          bench.mmio.read(0xfe82_0000 + offset, 4),
          await qemu.read(GPIO0 + offset, 4),
        ];
        const put = async (levels: number): Promise<void> => {
          pins.put(levels);
          for (let pin = 0; pin < 8; pin++) await qemu.setInput(object, pin, ((levels >> pin) & 1) === 1);
        };
        const { DIR, IS, IBE, IEV, IE, IC, AFSEL } = gpio.specs;
        // From where the program before left QEMU's: outputs low, then inputs low, nothing latched.
        await set(DIR.offset, 0xff);
        await set(0x3fc, 0);
        await set(DIR.offset, 0);
        await put(0);
        for (const { offset } of [IS, AFSEL, IE]) await set(offset, 0);
        for (const [name, value] of Object.entries(modes)) await set(gpio.specs[name as "DIR"].offset, value);
        await set(IC.offset, 0xff);
        for (const [index, step] of steps.entries()) {
          const where = `step ${index}: ${JSON.stringify(step)}`;
          if (step.op === "write") await set(gpio.specs[step.register].offset, step.value);
          else if (step.op === "data") await set(4 * step.mask, step.value);
          else if (step.op === "put") await put(step.value);
          for (const offset of [0x3fc, step.op === "look" ? 4 * step.mask : 0x3fc]) {
            const [ours, theirs] = await both(offset);
            expect(ours, `${where}: data at ${offset}`).toBe(theirs);
          }
          for (const { offset } of [DIR, IS, IBE, IEV, IE, gpio.specs.RIS, gpio.specs.MIS, AFSEL]) {
            const [ours, theirs] = await both(offset);
            expect(ours, `${where}: register at ${offset}`).toBe(theirs);
          }
          expect(bench.interrupts.level(12), where).toBe(await interrupts(qemu, VIC_GPIO0));
        }
      }),
      { numRuns: 30 },
    );
    line.destroy();
  });

  it("both identify themselves as that does", async () => {
    const { qemu, line } = await versatile();
    await using _qemu = qemu;
    const ids = async (bench: TestBench, base: number, at: number): Promise<void> => {
      for (let offset = 0xfe0; offset < 0x1000; offset += 4)
        expect(bench.mmio.read(base + offset, 4), `at ${offset}`).toBe(await qemu.read(at + offset, 4));
    };
    await ids((await uartBench()).bench, 0xfe81_0000, UART0);
    await ids((await gpioBench()).bench, 0xfe82_0000, GPIO0);
    line.destroy();
  });
});
