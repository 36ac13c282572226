import { existsSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { bootLinux, QtestMachine } from "@northbridge/sdk/host";
import { FakeClock, type FakeMachine, testBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ds1307, registers } from "./ds1307.ts";
import { I2cBus, type I2cTarget } from "./i2c.ts";
import { registers as host, smbus } from "./smbus.ts";
import { VersatileI2c } from "./versatile-i2c.ts";

const ADDRESS = 0x68;
const EPOCH = Date.UTC(2024, 1, 28, 23, 59, 50);

/** A bus of wires: what a test puts on it, the chips hear. */
class Wire implements I2cBus {
  readonly #targets = new Map<number, I2cTarget>();

  attach(address: number, target: I2cTarget): void {
    this.#targets.set(address, target);
  }

  transfer(address: number, bytes: readonly number[], count: number): readonly number[] {
    const target = this.#targets.get(address);
    if (target === undefined) throw new Error("nobody is there");
    if (bytes.length > 0) target.start(false);
    for (const byte of bytes) target.write(byte);
    if (count > 0) target.start(true);
    const read = Array.from({ length: count }, () => target.read());
    target.stop();
    return read;
  }
}

async function chipAt(epochMs: number) {
  const wire = new Wire();
  const clock = new FakeClock({ epochMs });
  await testBench(ds1307(), { clock, prepare: (machine) => void machine.provide(I2cBus, wire) });
  return { wire, clock };
}

/** The chip's registers in memory, each access a transfer: where benches and fuzzers can reach them. */
function inMemory(machine: FakeMachine): void {
  const wire = new Wire();
  machine.provide(I2cBus, wire);
  machine.mmio.map(
    { name: "ds1307", base: 0x1000, length: registers.length, widest: 1 },
    {
      read: (offset) => wire.transfer(ADDRESS, [offset], 1)[0] ?? 0,
      write: (offset, _width, value) => void wire.transfer(ADDRESS, [offset, value], 0),
    },
  );
}

describe("the chip", () => {
  it("counts seconds as the calendar does, leap days and the twelve-hour clock too", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.date({ min: new Date("2000-01-01"), max: new Date("2098-12-31"), noInvalidDate: true }),
        fc.oneof(fc.nat(100), fc.nat(100_000), fc.nat(40_000_000)),
        async (start, seconds) => {
          const epochMs = Math.floor(start.getTime() / 1000) * 1000;
          const { wire, clock } = await chipAt(epochMs);
          clock.advance(seconds * 1e9);
          const then = new Date(epochMs + seconds * 1000);
          const read = wire.transfer(ADDRESS, [0], 7).map((byte) => byte.toString(16).padStart(2, "0"));
          const iso = then.toISOString();
          const [date, time] = [iso.slice(2, 10).split("-"), iso.slice(11, 19).split(":")];
          const day = `0${then.getUTCDay() + 1}`;
          expect(read).toEqual([time[2], time[1], time[0], day, date[2], date[1], date[0]]);
        },
      ),
    );
  });

  it("stands still while its oscillator is off, and keeps a transfer of one instant", async () => {
    const { wire, clock } = await chipAt(EPOCH);
    wire.transfer(ADDRESS, [0, 0x80 | 0x50], 0);
    clock.advance(100e9);
    expect(wire.transfer(ADDRESS, [0], 2)).toEqual([0xd0, 0x59]);
    wire.transfer(ADDRESS, [0, 0x59], 0);
    clock.advance(0.9e9);
    expect(wire.transfer(ADDRESS, [0], 3)).toEqual([0x59, 0x59, 0x23]);
    clock.advance(0.1e9);
    expect(wire.transfer(ADDRESS, [0], 7)).toEqual([0, 0, 0, 0x05, 0x29, 0x02, 0x24]);
    wire.transfer(ADDRESS, [0x3f, 0xaa], 0);
    expect(wire.transfer(ADDRESS, [0x3f], 2)).toEqual([0xaa, 0]);
  });

  // Every law but that of reset: time and RAM are on a battery.
  deviceConformance(
    { describe, it },
    { create: () => ds1307(), registers, code: "ds1307()", prepare: inMemory, except: ["reset"] },
  );
});

describe("the bus", () => {
  it("moves bytes in the time they take, and says that nobody is there", async () => {
    const targets: string[] = [];
    const bench = await testBench(smbus(), { registers: host });
    const [found] = bench.pci.enumerate();
    found!.fn.configWrite(0x40, 1, 1);
    bench.machine.get(I2cBus).attach(0x50, {
      start: (isRead) => void targets.push(isRead ? "read" : "write"),
      write: (byte) => targets.push(byte.toString(16)) > 0,
      read: () => 0x77,
      stop: () => void targets.push("stop"),
    });
    bench.regs.XMIT_SLVA.write({ ADDRESS: 0x50, RW: 1 });
    bench.regs.HST_CMD.write(0x12);
    bench.regs.HST_CNT.write({ START: 1, SMB_CMD: "BYTE_DATA", INTREN: 1 });
    bench.clock.advance(359_999);
    expect(bench.regs.HST_STS.fields().HOST_BUSY).toBe(1);
    expect(bench.interrupts.level(17)).toBe(false);
    bench.clock.advance(1);
    expect([bench.regs.HST_STS.read() & 0x1f, bench.regs.HST_D0.read()]).toEqual([2, 0x77]);
    expect([targets.splice(0), bench.interrupts.level(17)]).toEqual([["write", "12", "read", "stop"], true]);
    bench.regs.HST_STS.write({ INTR: 1 });
    bench.regs.XMIT_SLVA.write({ ADDRESS: 0x51 });
    bench.regs.HST_CNT.write({ START: 1, SMB_CMD: "QUICK" });
    bench.clock.advance(1e6);
    expect(bench.regs.HST_STS.fields()).toMatchObject({ DEV_ERR: 1, INTR: 0, HOST_BUSY: 0 });
  });

  deviceConformance({ describe, it }, { create: () => smbus(), registers: host, code: "smbus()" });
});

const QEMU = "qemu-system-arm";
const bcd = (min: number, max: number): fc.Arbitrary<number> =>
  fc.integer({ min, max }).map((n) => (Math.floor(n / 10) << 4) | (n % 10));

describe.skipIf(!QtestMachine.isInstalled(QEMU))("beside QEMU's DS1338 (needs qemu-system-arm)", () => {
  it("answers every transfer as that does", { timeout: 120_000 }, async () => {
    await using qemu = await QtestMachine.start(QEMU, () =>
      Promise.resolve(["-M", "versatilepb", "-S", "-nodefaults"]),
    );
    const theirs = new VersatileI2c(qemu);
    const { wire: ours, clock } = await chipAt(EPOCH);
    const write = async (bytes: readonly number[]): Promise<void> => {
      await theirs.transfer(ADDRESS, bytes, 0);
      ours.transfer(ADDRESS, bytes, 0);
    };
    /** QEMU's goes on with the host's time: ours follows, second by second. */
    const compare = async (at: number, count: number): Promise<void> => {
      const expected = await theirs.transfer(ADDRESS, [at], count);
      const look = (): readonly number[] => ours.transfer(ADDRESS, [at], count);
      for (let seconds = 0; seconds < 60 && String(look()) !== String(expected); seconds++)
        clock.advance(1e9);
      expect(look(), `${count} bytes at ${at}`).toEqual(expected);
    };
    // A date that there is in every month, and then the day of the week: QEMU's follows the date.
    const time = fc
      .tuple(
        bcd(0, 59),
        bcd(0, 59),
        bcd(0, 23),
        bcd(1, 28),
        bcd(1, 12),
        bcd(0, 68),
        fc.integer({ min: 1, max: 7 }),
      )
      .map(([second, minute, hour, date, month, year, day]) => [
        [0, second, minute, hour, day, date, month, year],
        [3, day],
      ]);
    const memory = fc
      .tuple(fc.integer({ min: 7, max: 60 }), fc.array(fc.nat(255), { minLength: 1, maxLength: 3 }))
      .map(([at, bytes]) => [[at, ...bytes]]);
    const look = fc.record({ at: fc.nat(255), count: fc.integer({ min: 1, max: 9 }) });
    await fc.assert(
      fc.asyncProperty(fc.tuple(time, fc.option(memory)), look, async ([set, more], { at, count }) => {
        for (const bytes of [...set, ...(more ?? [])]) await write(bytes);
        await compare(0, 8);
        await compare(at, count);
      }),
      { numRuns: 25 },
    );
  });
});

const guest = process.env["NORTHBRIDGE_I2C_GUEST"];

describe("under Linux", () => {
  // Debian's kernel has no driver for clocks on this bus; that for EEPROMs reads every chip with a pointer of one byte.
  it("is on the bus of the driver i2c-i801, for the driver at24", { timeout: 600_000 }, async (context) => {
    if (guest === undefined || !existsSync(join(guest, "vmlinuz")))
      return context.skip(
        "NORTHBRIDGE_I2C_GUEST names no guest: northbridge guest linux --flavour full --module i2c-i801 --module at24 --out DIR",
      );
    await using linux = await bootLinux({
      hypervisor: builtInHypervisor("soft"),
      registry: builtInRegistry(),
      kernel: join(guest, "vmlinuz"),
      initrd: join(guest, "initrd.img"),
      devices: [smbus(), ds1307()],
    });
    const linuxGuest = await linux.guest();
    const ask = async (command: string): Promise<string> => {
      const { stdout, stderr, status } = await linuxGuest.exec(command);
      expect({ command, stderr, status }).toEqual({ command, stderr: "", status: 0 });
      return stdout.trim();
    };
    await linuxGuest.loadModule("i2c-i801");
    await linuxGuest.loadModule("at24");
    await expect(linuxGuest.loadModule("no-such-module")).rejects.toThrow(
      /cannot load the module no-such-module: .*not found/,
    );
    const adapter = await ask("dirname $(grep -l I801 /sys/bus/i2c/devices/i2c-*/name)");
    await ask(`echo 24c01 0x68 > ${adapter}/new_device`);
    const chip = `${adapter}/*-0068/eeprom`;
    const bytes = async (at: number, count: number): Promise<string> =>
      (await ask(`dd if=$(echo ${chip}) bs=1 skip=${at} count=${count} 2>/dev/null | xxd -p`)).replaceAll(
        "\n",
        "",
      );
    const put = (at: number, text: string): Promise<string> =>
      ask(
        `printf '${text}' | dd of=$(echo ${chip}) bs=8 seek=${at} oflag=seek_bytes conv=notrunc 2>/dev/null`,
      );
    const [second, minute, hour, , date, month, year] = (await bytes(0, 7)).match(/../g) ?? [];
    const shown = Date.parse(`20${year}-${month}-${date}T${hour}:${minute}:${second}Z`);
    expect(Math.abs(shown - Date.now())).toBeLessThan(120_000);
    await put(0, "\\x58\\x59\\x23\\x04\\x31\\x12\\x31");
    await ask("sleep 3");
    expect(await bytes(1, 6)).toBe("000005010132");
    await put(8, "fifty-six bytes!");
    expect(Buffer.from(await bytes(8, 15), "hex").toString()).toBe("fifty-six bytes");
    await ask(`echo 24c01 0x51 > ${adapter}/new_device`);
    expect((await linuxGuest.exec(`cat ${adapter}/*-0051/eeprom`)).status).not.toBe(0);
    expect(await ask("dmesg | grep -iE 'i801.*(timeout|failed|busy)' || true")).toBe("");
  });
});
