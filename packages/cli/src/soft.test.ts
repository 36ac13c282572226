import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Assembler,
  addressOf,
  al,
  cr,
  dx,
  eax,
  ecx,
  edx,
  esi,
  mem,
  rax,
  rcx,
  rsi,
} from "@northbridge/sdk/asm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { builtInHypervisor } from "./built-in-hypervisor.ts";
import { builtInRegistry } from "./built-in-registry.ts";
import { CliHarness } from "./testing/cli-harness.ts";

const ORIGIN = 0x10_0000;
const COM1 = 0x3f8;
const DEBUG_EXIT = 0xf4;
/** The PC's reset control register: bit 1 system reset, bit 2 reset the CPU. */
const RESET_CONTROL = 0xcf9;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-soft-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Runs a 64-bit guest program on the software CPU with all of a PC's devices and a debug exit. */
const run = async (
  write: (a: Assembler) => void,
  options: { readonly config?: object; readonly args?: readonly string[]; readonly image?: string } = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
  const a = new Assembler({ origin: ORIGIN });
  write(a);
  const { image = "guest" } = options;
  await writeFile(join(directory, image), a.finish());
  const machine = join(directory, `${image}.json`);
  const config = {
    machine: "pc-1",
    clock: "virtual",
    memory: { mib: 4 },
    boot: { flat: { image, gpa: ORIGIN, mode: "long" } },
    devices: [{ plugin: "debugExit" }],
    ...options.config,
  };
  await writeFile(machine, JSON.stringify(config));
  const harness = new CliHarness(builtInHypervisor("soft"), { registry: builtInRegistry() });
  return harness.run("run", machine, "--timeout", "60", ...(options.args ?? []));
};

const print = (a: Assembler, text: string): void => {
  a.mov(edx, COM1);
  for (const char of text) {
    a.mov(al, char.charCodeAt(0));
    a.out(dx, al);
  }
};

const exit = (a: Assembler, value = 0): void => {
  a.mov(edx, DEBUG_EXIT);
  a.mov(al, value);
  a.out(dx, al);
  a.label("dead");
  a.jmp("dead");
};

/** Prints the digits 0 to 9 over and over, `rounds` times, each after some work. */
const digits = (a: Assembler, rounds: number): void => {
  a.mov(esi, 0);
  a.label("digit");
  a.mov(ecx, 2000);
  a.label("work");
  a.inc(mem({ displacement: 0x20_0000, bits: 32 }));
  a.dec(ecx);
  a.j("nz", "work");
  a.mov(edx, COM1);
  a.mov(rcx, addressOf("text"));
  a.mov(al, mem({ base: rcx, index: rsi, bits: 8 }));
  a.out(dx, al);
  a.inc(esi);
  a.cmp(esi, rounds * 10);
  a.j("b", "digit");
  exit(a);
  a.label("text");
  a.ascii("0123456789".repeat(rounds));
};

describe("northbridge run on the software CPU", () => {
  it("runs a guest until it powers off", async () => {
    const hello = (a: Assembler): void => {
      print(a, "hi\n");
      exit(a);
    };
    expect(await run(hello)).toEqual({ code: 0, out: "hi\n", err: "" });
  });

  it("exits with 3 on a panic and on a triple fault", async () => {
    expect(await run((a) => exit(a, 7))).toMatchObject({
      code: 3,
      err: expect.stringMatching(/the guest panicked: .*7/),
    });
    const faulty = (a: Assembler): void => {
      a.table("lidt", mem({ displacement: 0x20_0000, bits: 64 }));
      a.op("ud2");
    };
    expect(await run(faulty)).toMatchObject({
      code: 3,
      err: expect.stringContaining("the guest triple-faulted"),
    });
  });

  it("names what the processor lacks, where, and the bytes there", async () => {
    let here = 0;
    const divideByZero = (a: Assembler): void => {
      a.movFromSystem(rax, cr(0));
      a.and(rax, ~0x20); // x87 exceptions by way of FERR#
      a.movToSystem(cr(0), rax);
      a.mov(mem({ displacement: 0x20_0000, bits: 32 }), 0x37b);
      a.bytes(0xdb, 0xe3, 0xd9, 0x2c, 0x25, 0, 0, 0x20, 0); // FNINIT, FLDCW
      a.bytes(0xd9, 0xe8, 0xd9, 0xee, 0xd8, 0xf9); // FLD1, FLDZ, FDIVR: 1/0
      a.label("here");
      a.bytes(0x9b);
      here = a.addressOf("here");
    };
    expect(await run(divideByZero)).toEqual({
      code: 1,
      out: "",
      err: `northbridge: the machine failed: vCPU 0: not implemented: x87 exception with CR0.NE clear at 0x${here.toString(16)} [9b]\n`,
    });
  });

  it("names the device whose code throws, and its stack under --debug only", async () => {
    await writeFile(
      join(directory, "machine.config.ts"),
      `const spec = {
        name: "@example/devices/gadget",
        config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
        setup(ctx) {
          ctx.mapPorts({ base: 0x700, length: 4 }, {
            read: () => {
              throw new TypeError("no such register");
            },
            write: (offset, _width, value) => {
              if (offset === 1) ctx.irq(5).set(Number.NaN);
              ctx.clock.createTimer(() => { throw new TypeError("time is up"); }).arm(ctx.clock.nowNs() + 1000 * value);
            },
          });
          return {};
        },
      };
      export default {
        clock: "virtual",
        memory: { mib: 4 },
        boot: { flat: { image: "guest", gpa: ${ORIGIN}, mode: "long" } },
        devices: [{ spec, input: {}, id: "gadget" }],
      };`,
    );
    const attempt = async (
      write: (a: Assembler) => void,
      ...args: readonly string[]
    ): Promise<{ readonly code: number; readonly out: string; readonly err: string }> => {
      const a = new Assembler({ origin: ORIGIN });
      write(a);
      a.label("forever");
      a.jmp("forever");
      await writeFile(join(directory, "guest"), a.finish());
      const harness = new CliHarness(builtInHypervisor("soft"), { registry: builtInRegistry() });
      return harness.run("run", join(directory, "machine.config.ts"), "--timeout", "60", ...args);
    };
    const read = (a: Assembler): void => {
      print(a, "hi");
      a.mov(edx, 0x702);
      a.in(al, dx);
    };
    const timer = (a: Assembler): void => {
      a.mov(edx, 0x700);
      a.mov(al, 5);
      a.out(dx, al);
    };
    const line = (a: Assembler): void => {
      a.mov(edx, 0x701);
      a.out(dx, al);
    };
    const reported = async (...args: Parameters<typeof attempt>): Promise<string> => {
      const { code, err } = await attempt(...args);
      expect(code).toBe(1);
      return err.replace(/; what led to it is in [^\n]+/, "");
    };
    const before = process.cwd();
    process.chdir(directory); // reports go below it
    try {
      const failed = "northbridge: the machine failed: device gadget: ";
      const message = `${failed}read gadget+0x2 (1 byte): no such register\n`;
      expect(await reported(read)).toBe(message);
      const debugged = await reported(read, "--debug");
      expect(debugged.startsWith(message)).toBe(true);
      expect(debugged).toMatch(/\ncaused by TypeError: no such register\n +at .*machine\.config\.ts/);
      expect(await reported(timer)).toBe(`${failed}a timer: time is up\n`);
      expect(await reported(line)).toBe(
        `${failed}write gadget+0x1 (1 byte): an interrupt line was set to NaN, expected true or false\n`,
      );
    } finally {
      process.chdir(before);
    }
  });

  it("resets into the boot image, or exits with 4", async () => {
    const onceMore = (a: Assembler): void => {
      print(a, "x");
      // RAM survives a reset.
      a.cmp(mem({ displacement: 0x20_0000, bits: 32 }), 0);
      a.j("nz", "second");
      a.mov(mem({ displacement: 0x20_0000, bits: 32 }), 1);
      a.mov(edx, RESET_CONTROL);
      a.mov(al, 6);
      a.out(dx, al);
      a.label("wait");
      a.jmp("wait");
      a.label("second");
      exit(a);
    };
    expect(await run(onceMore)).toEqual({ code: 0, out: "xx", err: "" });
    expect(await run(onceMore, { config: { onReset: "stop" } })).toEqual({ code: 4, out: "x", err: "" });
  });

  it("survives a guest that jumps into nothing", async () => {
    const { code } = await run((a) => {
      a.mov(rcx, 0x7fff_0000);
      a.jmp(rcx);
    });
    expect([1, 3]).toContain(code);
  });

  it("gives the same run twice under a virtual clock", async () => {
    const stats = join(directory, "stats.json");
    const once = async (): Promise<unknown> => {
      const { code, out, err } = await run((a) => digits(a, 20), {
        args: ["--stats", stats, "--expect", "5678"],
      });
      const { instructions, exits, guestTimeMs, milestones } = JSON.parse(await readFile(stats, "utf8")) as {
        readonly instructions: number;
        readonly exits: object;
        readonly guestTimeMs: number;
        readonly milestones: Record<string, { readonly instructions: number }>;
      };
      return { code, out, err, instructions, exits, guestTimeMs, at: milestones["5678"]?.instructions };
    };
    const first = await once();
    expect(first).toMatchObject({ code: 0, out: "0123456789".repeat(20), err: "" });
    expect(await once()).toEqual(first);
  });

  it("keeps two machines in one process apart", async () => {
    const both = await Promise.all([
      run((a) => digits(a, 30), { image: "one" }),
      run(
        (a) => {
          print(a, "other");
          exit(a, 9);
        },
        { image: "two", config: { vcpus: 2 } },
      ),
    ]);
    expect(both.map(({ code, out }) => [code, out])).toEqual([
      [0, "0123456789".repeat(30)],
      [3, "other"],
    ]);
  });

  it("has the same RAM and state at the same instruction", async () => {
    const save = async (name: string): Promise<readonly Buffer[]> => {
      const to = join(directory, name);
      await run((a) => digits(a, 30), { config: { vcpus: 2 }, args: ["--save-on", "89012", to] });
      return Promise.all([readFile(join(to, "ram.pages")), readFile(join(to, "manifest.json"))]);
    };
    expect(await save("one")).toEqual(await save("two"));
  });

  it("saves in the middle of a run and goes on", async () => {
    const to = join(directory, "snap");
    const program = (a: Assembler): void => digits(a, 30);
    const first = await run(program, { args: ["--save-on", "89012", to] });
    expect(first.code).toBe(0);
    expect(first.out.length).toBeLessThan(300);
    const second = await run(program, { args: ["--restore", to] });
    expect(second).toMatchObject({ code: 0, err: "" });
    expect(first.out + second.out).toBe("0123456789".repeat(30));
  });

  it("shows the guest the processor that the config and --set ask for", async () => {
    // CPUID leaf 1: POPCNT is bit 23 of ECX (Intel SDM 2A).
    const hasPopcnt = (a: Assembler): void => {
      a.mov(eax, 1);
      a.op("cpuid");
      a.and(ecx, 2 ** 23);
      a.mov(al, 0x30);
      a.j("z", "hidden");
      a.mov(al, 0x31);
      a.label("hidden");
      a.mov(edx, COM1);
      a.out(dx, al);
      exit(a);
    };
    const hidden = { config: { cpu: { features: { popcnt: false } } } };
    expect(await run(hasPopcnt)).toEqual({ code: 0, out: "1", err: "" });
    expect(await run(hasPopcnt, hidden)).toEqual({ code: 0, out: "0", err: "" });
    const set = ["--set", "cpu.model=x86-64-v2", "--set", "cpu.features.popcnt=true"];
    expect(await run(hasPopcnt, { ...hidden, args: set })).toEqual({ code: 0, out: "1", err: "" });
    expect(await run(hasPopcnt, { args: ["--set", "cpu.features.avx2=true"] })).toMatchObject({
      code: 2,
      err: expect.stringContaining(
        "cpu.features.avx2: the soft backend lacks AVX2 (CPUID 0x7.0 EBX bit 5)\n",
      ),
    });
  });

  it("refuses more memory than the software CPU can hold", async () => {
    expect(await run(exit, { config: { memory: { mib: 8192 } } })).toMatchObject({
      code: 2,
      err: expect.stringMatching(
        /guest\.json:1:\d+: memory\.mib: expected at most \d+, the limit of the soft backend, found 8192\n$/,
      ),
    });
  });
});
