import { existsSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { bootLinux } from "@northbridge/sdk/host";
import { testBench } from "@northbridge/sdk/testing";
import { deviceMatchers } from "@northbridge/sdk/vitest";
import { describe, expect, it } from "vitest";
import { registers, thermometer } from "./thermometer.ts";

expect.extend(deviceMatchers);

describe("on a test bench", () => {
  it("raises its alarm once the limit is reached, until that is acknowledged", async () => {
    const bench = await testBench(thermometer(), { registers });
    bench.regs.LIMIT.write(21_500);
    bench.regs.CTRL.write({ ENABLE: 1, IRQ: 1 });
    expect(bench).not.toRaiseInterrupt(() => bench.clock.advance(2.9e9));
    expect(bench.regs.TEMP.read()).toBe(21_000);
    expect(bench).toRaiseInterrupt(() => bench.clock.advance(0.1e9), { gsi: 10 });
    expect(bench).toMatchTrace(
      () => bench.regs.STATUS.write({ ALARM: 1 }),
      ["write STATUS = 0x1 { ALARM }", "irq 10 down"],
    );
  });
});

deviceConformance({ describe, it }, { create: () => thermometer(), registers, code: "thermometer()" });

describe("under Linux", () => {
  const directory = process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../linux-serial/guest");

  it("measures for the guest, each time from right after boot", { timeout: 600_000 }, async (context) => {
    context.skip(
      !existsSync(join(directory, "vmlinuz")),
      "no guest: northbridge guest linux --out examples/linux-serial/guest",
    );
    await using linux = await bootLinux({
      hypervisor: builtInHypervisor("soft"),
      registry: builtInRegistry(),
      kernel: join(directory, "vmlinuz"),
      initrd: join(directory, "initrd.img"),
      devices: [thermometer()],
    });
    const guest = await linux.guest();
    expect(await guest.exec("devmem 0xfe80000c 32")).toEqual({
      stdout: "0x00007530\n",
      stderr: "",
      status: 0,
    });
    const wait = "while [ $(devmem 0xfe800004 32) = 0x00000000 ]; do sleep 1; done";
    expect(
      await guest.exec(`devmem 0xfe80000c 32 20500; devmem 0xfe800000 32 3; ${wait}; devmem 0xfe800008 32`),
    ).toMatchObject({
      stdout: expect.stringMatching(/^0x0000(5014|5208)\n$/),
      status: 0,
    });
    expect(await guest.exec("devmem nonsense >/dev/null; false")).toMatchObject({ status: 1 });
    await guest.stop();
    const another = await linux.guest();
    expect((await another.exec("devmem 0xfe800000 32; uname -s")).stdout).toBe("0x00000000\nLinux\n");
  });
});
