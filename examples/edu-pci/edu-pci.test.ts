import { existsSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { bootLinux, type BootedLinux, type LinuxGuest, QtestMachine } from "@northbridge/sdk/host";
import { testBench } from "@northbridge/sdk/testing";
import { deviceMatchers } from "@northbridge/sdk/vitest";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, type TestContext, vi } from "vitest";
import { checker } from "./edu-checker.ts";
import { BUFFER, edu, registers } from "./edu.ts";

expect.extend(deviceMatchers);

const start = async () => {
  const bench = await testBench(edu(), { registers });
  const [found] = bench.pci.enumerate();
  return { bench, fn: found!.fn };
};

/** QEMU may take that long for what it must do, on a loaded host. */
const waitUntil = (condition: () => boolean | Promise<boolean>): Promise<boolean> =>
  vi.waitUntil(condition, { timeout: 30_000, interval: 1 });

describe("on a test bench", () => {
  it("computes factorials and interrupts", async () => {
    const { bench } = await start();
    bench.regs.STATUS.write({ IRQFACT: 1 });
    bench.regs.FACT.write(6);
    expect(bench.regs.STATUS.fields()).toEqual({ COMPUTING: 1, IRQFACT: 1 });
    expect(bench).toRaiseInterrupt(() => bench.clock.advance(1000), { gsi: 16 });
    expect([bench.regs.FACT.read(), bench.regs.IRQ_STATUS.read()]).toEqual([720, 1]);
    expect(bench).toMatchTrace(() => bench.regs.IRQ_ACK.write(1), ["write IRQ_ACK = 0x1", "irq 16 down"]);
  });

  it("moves memory to its own and back, and says so by message", async () => {
    const { bench, fn } = await start();
    const message = { address: 0xfee0_1000, data: 0x41 };
    fn.configWrite(0x40 + 4, 4, message.address);
    fn.configWrite(0x40 + 12, 2, message.data);
    fn.configWrite(0x40 + 2, 2, 1);
    bench.memory.bytes.set([1, 2, 3, 4], 0x1000);
    for (const [source, target, command] of [
      [0x1000, BUFFER.base + 8, { RUN: 1 }],
      [BUFFER.base + 7, 0x2000, { RUN: 1, TO_RAM: 1, IRQ: 1 }],
    ] as const) {
      bench.regs.DMA_SRC.write(source);
      bench.regs.DMA_DST.write(target);
      bench.regs.DMA_CNT.write(4);
      bench.regs.DMA_CMD.write(command);
      bench.clock.advance(99e6);
      expect(bench.regs.DMA_CMD.fields().RUN).toBe(1);
      if (command.RUN === 1 && !("IRQ" in command)) bench.clock.advance(1e6);
    }
    expect(bench).toWriteGuestMemory(() => bench.clock.advance(1e6), 0x2000, [0, 1, 2, 3]);
    expect(bench.interrupts.messages).toEqual([message]);
    // A message that is lost is gone: nobody says again what was said.
    bench.interrupts.loseNext();
    bench.regs.IRQ_RAISE.write(1);
    bench.clock.advance(1e9);
    expect([bench.interrupts.messages, bench.interrupts.lost]).toEqual([[message], 1]);
    bench.regs.IRQ_RAISE.write(2);
    expect(bench.interrupts.messages).toEqual([message, message]);
  });
});

deviceConformance({ describe, it }, { create: () => edu(), registers, checker, code: "edu()" });

/** What DMA_CMD is after each write of it, the second in the midst of the first's transfer. */
const RESTARTED = [
  { command: 1, seen: 1 },
  { command: 7, seen: 1 },
];

it("goes on with a transfer that is started again, from the first start on", async () => {
  const { bench } = await start();
  for (const { command, seen } of RESTARTED) {
    bench.regs.DMA_CMD.write(command);
    expect(bench.regs.DMA_CMD.read()).toBe(seen);
    bench.clock.advance(50e6);
  }
  expect(bench.regs.DMA_CMD.read()).toBe(0);
});

const RAM = 0x10_0000;
const BAR = 0xe000_0000;
const SLOT = 4;
const MESSAGE = { address: 0x20_0000, data: 0x1234 };

/** One thing that a driver does; the same for both devices. */
type Step =
  | { readonly op: "write"; readonly register: WritableRegister; readonly value: number }
  | { readonly op: "read"; readonly offset: number }
  | { readonly op: "fill"; readonly at: number; readonly byte: number };

const WRITABLE = [
  "ID",
  "LIVE",
  "FACT",
  "STATUS",
  "IRQ_STATUS",
  "IRQ_RAISE",
  "IRQ_ACK",
  "DMA_SRC",
  "DMA_DST",
  "DMA_CNT",
  "DMA_CMD",
] as const;
type WritableRegister = (typeof WRITABLE)[number];

/** Values that keep every transfer inside of the device's memory, whatever comes before: QEMU ends otherwise. */
const VALUES: Readonly<Record<WritableRegister, fc.Arbitrary<number>>> = {
  ID: fc.constant(7),
  LIVE: fc.nat(0xffff_ffff),
  FACT: fc.oneof(fc.nat(14), fc.constantFrom(33, 34, 35, 1000)),
  STATUS: fc.constantFrom(0, 0x80, 0xff, 0x7f),
  IRQ_STATUS: fc.constant(0xffff_ffff),
  IRQ_RAISE: fc.constantFrom(0, 1, 0x100, 0x8000_0000, 0xff),
  IRQ_ACK: fc.constantFrom(0, 1, 0x100, 0xffff_ffff),
  DMA_SRC: fc.nat(64),
  DMA_DST: fc.nat(64),
  DMA_CNT: fc.nat(64),
  // What does not start a transfer; those that do are steps of their own, below.
  DMA_CMD: fc.constantFrom(0, 2, 4, 6),
};

const write = (register: WritableRegister, value: number): Step => ({ op: "write", register, value });

const steps: fc.Arbitrary<Step[]> = fc
  .array(
    fc.oneof(
      fc
        .constantFrom(...WRITABLE)
        .chain((register) => VALUES[register].map((value) => [write(register, value)])),
      fc
        .record({
          own: fc.nat(3990),
          ram: fc.nat(200),
          count: fc.integer({ min: 1, max: 96 }),
          command: fc.constantFrom(1, 3, 5, 7),
        })
        .map(({ own, ram, count, command }) => {
          const [source, target] =
            (command & 2) !== 0 ? [BUFFER.base + own, RAM + ram] : [RAM + ram, BUFFER.base + own];
          return [
            ...[
              write("DMA_SRC", source),
              write("DMA_DST", target),
              write("DMA_CNT", count),
              write("DMA_CMD", command),
            ],
          ];
        }),
      fc
        .constantFrom(0, 4, 8, 0x20, 0x24, 0x60, 0x64, 0x70, 0x80, 0x84, 0x88, 0x90, 0x98, 0x9c, 0x1000)
        .map((offset) => [{ op: "read" as const, offset }]),
      fc
        .record({ at: fc.nat(200), byte: fc.nat(255) })
        .map(({ at, byte }) => [{ op: "fill" as const, at, byte }]),
    ),
    { maxLength: 25 },
  )
  .map((groups) => groups.flat());

describe.skipIf(!QtestMachine.isInstalled())("beside QEMU's own (needs qemu-system-x86_64)", () => {
  it("goes on with a transfer that is started again, as that does", async () => {
    await using qemu = await QtestMachine.pc(["-device", `edu,addr=${SLOT}`], "stands");
    await qemu.configWrite(SLOT, 0x10, 4, BAR);
    await qemu.configWrite(SLOT, 0x04, 4, 0x0006);
    for (const { command, seen } of RESTARTED) {
      await qemu.write(BAR + 0x98, 4, command);
      expect(await qemu.read(BAR + 0x98, 4)).toBe(seen);
    }
  });

  it.each([
    ["INTx", false],
    ["MSI", true],
  ])("answers every driver as that does, with %s", async (_name, usesMsi) => {
    await using qemu = await QtestMachine.pc(["-device", `edu,addr=${SLOT}`]);
    await qemu.configWrite(SLOT, 0x10, 4, BAR);
    await qemu.configWrite(SLOT, 0x04, 4, 0x0406);
    await qemu.configWrite(SLOT, 0x04, 4, 0x0006);
    // Where the list of capabilities begins.
    const msi = (await qemu.configRead(SLOT, 0x34, 4)) & 0xff;
    await qemu.configWrite(SLOT, msi + 4, 4, MESSAGE.address);
    await qemu.configWrite(SLOT, msi + 12, 4, MESSAGE.data);
    if (usesMsi) await qemu.configWrite(SLOT, msi, 4, 0x0001_0000);

    const normal: readonly Step[] = [
      ...(["LIVE", "FACT", "STATUS", "DMA_SRC", "DMA_DST", "DMA_CNT"] as const).map((name) => write(name, 0)),
      write("IRQ_ACK", 0xffff_ffff),
    ];
    await fc.assert(
      fc.asyncProperty(steps, async (program) => {
        const { bench, fn } = await testBench(edu(), { registers, memoryBytes: 4 << 20 }).then((made) => ({
          bench: made,
          fn: made.pci.enumerate()[0]!.fn,
        }));
        for (const offset of [0x00, 0x08, 0x3c]) {
          expect(fn.configRead(offset, 4) & ~0xff, `configuration at ${offset}`).toBe(
            (await qemu.configRead(SLOT, offset, 4)) & ~0xff,
          );
        }
        const own = fn.configRead(0x34, 1);
        fn.configWrite(own + 4, 4, MESSAGE.address);
        fn.configWrite(own + 12, 2, MESSAGE.data);
        if (usesMsi) fn.configWrite(own + 2, 2, 1);
        const base = fn.barBase(0)!;
        // QEMU's computes on a thread of the host and moves memory as soon as nothing else runs: both wait for it.
        const finish = async (): Promise<void> => {
          bench.clock.advance(100e6);
          for (const [offset, busy] of [
            [0x20, 1],
            [0x98, 1],
          ] as const) {
            await waitUntil(async () => {
              const state = await qemu.read(BAR + offset, 4);
              return (state & busy) === 0;
            });
          }
        };
        const zeroes = new Uint8Array(512);
        const both = async (step: Step): Promise<readonly [unknown, unknown]> => {
          switch (step.op) {
            case "read":
              return [bench.mmio.read(base + step.offset, 4), await qemu.read(BAR + step.offset, 4)];
            case "write": {
              const { offset } = registers.specs[step.register];
              bench.mmio.write(base + offset, 4, step.value);
              await qemu.write(BAR + offset, 4, step.value);
              await finish();
              break;
            }
            case "fill":
              bench.memory.bytes.fill(step.byte, RAM + step.at, RAM + step.at + 16);
              await qemu.setBytes(RAM + step.at, new Uint8Array(16).fill(step.byte));
          }
          return [undefined, undefined];
        };
        bench.memory.bytes.set(zeroes, RAM);
        await qemu.setBytes(RAM, zeroes);
        // The device's own memory, from zeroes: QEMU's keeps what the program before left there.
        for (const step of [
          ...normal,
          write("DMA_SRC", RAM + 0x1000),
          write("DMA_DST", BUFFER.base),
          write("DMA_CNT", BUFFER.length - 1),
          write("DMA_CMD", 1),
          ...normal,
        ])
          await both(step);
        bench.interrupts.messages.length = 0;
        await qemu.write(MESSAGE.address, 4, 0);
        for (const [index, step] of program.entries()) {
          const [ours, theirs] = await both(step);
          expect(ours, `step ${index}: ${JSON.stringify(step)}`).toBe(theirs);
          const intx = (await qemu.configRead(SLOT, 0x04, 4)) & 0x0008_0000;
          expect(fn.configRead(0x04, 4) & 0x0008_0000, `INTx after step ${index}`).toBe(intx);
          const sent = await qemu.read(MESSAGE.address, 4);
          await qemu.write(MESSAGE.address, 4, 0);
          const messages = bench.interrupts.messages.splice(0);
          expect(messages.at(-1)?.data ?? 0, `message after step ${index}`).toBe(sent);
        }
        expect(Buffer.compare(bench.memory.bytes.subarray(RAM, RAM + 512), await qemu.bytes(RAM, 512))).toBe(
          0,
        );
      }),
      { numRuns: 40 },
    );
  });
});

describe("under Linux", () => {
  const directory = process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../linux-serial/guest");
  const isThere = existsSync(join(directory, "vmlinuz"));
  const fetched = "northbridge guest linux --module uio_pci_generic --out examples/linux-serial/guest";
  /** Memory that the kernel leaves alone, so that a program may have it (Linux: kernel-parameters, `memmap=nn$ss`). */
  const GUEST_RAM = 0x400_0000;
  let linux: BootedLinux | undefined;
  beforeAll(async () => {
    if (!isThere) return;
    linux = await bootLinux({
      hypervisor: builtInHypervisor("soft"),
      registry: builtInRegistry(),
      kernel: join(directory, "vmlinuz"),
      initrd: join(directory, "initrd.img"),
      devices: [edu()],
      cmdline: `memmap=1M$0x${GUEST_RAM.toString(16)}`,
    });
  }, 600_000);
  afterAll(() => linux?.[Symbol.asyncDispose]());

  /** A guest whose `/dev/mem` is the device's BAR, and a shell in it. */
  async function driven(context: TestContext): Promise<{
    readonly guest: LinuxGuest;
    readonly run: (command: string) => Promise<string>;
    /** The device's directory in sysfs. */
    readonly path: string;
  }> {
    if (linux === undefined) return context.skip(`no guest: ${fetched}`);
    const guest = await linux.guest();
    const run = async (command: string): Promise<string> => {
      const { stdout, stderr, status } = await guest.exec(command);
      expect({ command, stderr, status }).toEqual({ command, stderr: "", status: 0 });
      return stdout;
    };
    const found = await run("grep -l 0x11e8 /sys/bus/pci/devices/*/device | head -1 | xargs dirname");
    const path = found.trim();
    expect(await run(`cat ${path}/vendor ${path}/class; echo 1 > ${path}/enable`)).toBe("0x1234\n0x00ff00\n");
    // `devmem` maps its file at an address: the BAR, where that file is the device's resource.
    await run(`mount -o bind ${path}/resource0 /dev/mem`);
    return { guest, run, path };
  }

  it("answers through its resource in sysfs", { timeout: 600_000 }, async (context) => {
    const { run } = await driven(context);
    expect(await run("devmem 0; devmem 4 32 0x12345678; devmem 4")).toBe("0x010000ED\n0xEDCBA987\n");
    expect(await run("devmem 8 32 10; sleep 1; devmem 8")).toBe("0x00375F00\n");
  });

  it("moves the guest's memory once it is bus master", { timeout: 600_000 }, async (context) => {
    const { run, path } = await driven(context);
    await run("mknod /tmp/mem c 1 1");
    const { DMA_SRC, DMA_DST, DMA_CNT, DMA_CMD } = registers.specs;
    const { RUN, TO_RAM } = registers.masks.DMA_CMD;
    const [page, bytes] = [GUEST_RAM / 4096, 3000];
    const transfer = (from: number, to: number, command: number): Promise<string> =>
      run(
        [
          `devmem ${DMA_SRC.offset} 32 ${from}; devmem ${DMA_DST.offset} 32 ${to}`,
          `devmem ${DMA_CNT.offset} 32 ${bytes}; devmem ${DMA_CMD.offset} 32 ${command}`,
          `while [ $(($(devmem ${DMA_CMD.offset}) & ${RUN})) != 0 ]; do usleep 20000; done`,
        ].join("; "),
      );
    const sum = (at: number): Promise<string> =>
      run(`dd if=/tmp/mem bs=4096 skip=${at} count=1 2>/dev/null | head -c ${bytes} | sha256sum`);
    // From a page into the device, and on to the next page.
    const isCopied = async (): Promise<boolean> => {
      await transfer(GUEST_RAM, BUFFER.base, RUN);
      await transfer(BUFFER.base, GUEST_RAM + 4096, RUN | TO_RAM);
      return (await sum(page)) === (await sum(page + 1));
    };
    await run(`seq 1000 | dd of=/tmp/mem bs=4096 seek=${page} count=1 conv=notrunc 2>/dev/null`);
    expect(await isCopied()).toBe(false);
    // Memory and bus master, in the command register (PCI 3.0 §6.2.2).
    await run(`printf '\\006' | dd of=${path}/config bs=1 seek=4 conv=notrunc 2>/dev/null`);
    expect(await isCopied()).toBe(true);
  });

  it("interrupts a program through uio", { timeout: 600_000 }, async (context) => {
    const { guest, run } = await driven(context);
    await expect(guest.loadModule("no-such-module")).rejects.toThrow(
      /cannot load the module no-such-module: .*not found.*; northbridge guest linux --module no-such-module makes/,
    );
    const has = await guest.exec("grep -q uio_pci_generic.ko /lib/modules/*/modules.dep");
    if (has.status !== 0) return context.skip(`the guest has no module uio_pci_generic: ${fetched}`);
    await guest.loadModule("uio_pci_generic");
    await run("echo 1234 11e8 > /sys/bus/pci/drivers/uio_pci_generic/new_id");
    const { FACT, IRQ_STATUS, IRQ_ACK, STATUS } = registers.specs;
    await run(`devmem ${STATUS.offset} 32 ${registers.masks.STATUS.IRQFACT}`);
    // A read of /dev/uio0 waits for an interrupt and gives how many there have been.
    const wait = "dd if=/dev/uio0 bs=4 count=1 2>/dev/null | xxd -p";
    expect(await run(`(usleep 100000; devmem ${FACT.offset} 32 6) & ${wait}; wait`)).toBe("01000000\n");
    expect(await run(`devmem ${IRQ_STATUS.offset}; devmem ${FACT.offset}`)).toBe("0x00000001\n0x000002D0\n");
    await run(`devmem ${IRQ_ACK.offset} 32 1`);
    expect(await run(`devmem ${IRQ_STATUS.offset}`)).toBe("0x00000000\n");
  });
});
