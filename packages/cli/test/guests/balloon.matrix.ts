import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { GuestShell } from "./harness/guest-shell.ts";
import { monitor, withDevices } from "./harness/with-devices.ts";

/** MiB of the host's memory that the process of the machine holds. */
async function residentMib(shell: GuestShell): Promise<number> {
  const smaps = await readFile(`/proc/${shell.process.pid}/smaps_rollup`, "utf8");
  return Number(/Rss:\s+(\d+)/.exec(smaps)?.[1]) / 1024;
}

async function statistics(directory: string): Promise<Record<string, number>> {
  return JSON.parse(await monitor(directory, "device balloon statistics")) as Record<string, number>;
}

/** Waits until the guest says that its balloon is as large as that. */
async function expectActual(
  shell: GuestShell,
  directory: string,
  holds: (mib: number) => boolean,
): Promise<void> {
  for (let turn = 0; turn < 300; turn++) {
    if (holds((await statistics(directory))["actualMib"] ?? -1)) return;
    await shell.ask("usleep 100000");
  }
  expect((await statistics(directory))["actualMib"]).toSatisfy(holds);
}

const balloon = { plugin: "virtioBalloon", id: "balloon" };
/** A RAM disk is half of the memory otherwise. */
const PREPARE = "mount -o remount,size=220m /tmp && seq 500000 > /seq";
/** 40 MiB, of which no page is empty. */
const FILL = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat /seq; done";

describe("a balloon under a stock driver", () => {
  it("takes memory from the guest and gives it to the host, and back; what the guest keeps is what it was", async () => {
    await withDevices(
      () => [balloon],
      async (shell, directory) => {
        await shell.ask(PREPARE);
        // All of the guest's memory is used once, and so is the host's.
        const sum = await shell.ask(`(${FILL}) > /tmp/keep && sha256sum < /tmp/keep`);
        await shell.ask("dd if=/dev/zero of=/tmp/fill bs=1M count=100 2>/dev/null; rm /tmp/fill");
        const before = await residentMib(shell);
        expect(await monitor(directory, "device balloon target 100")).toBe("100 MiB");
        await expectActual(shell, directory, (mib) => mib === 100);
        expect(before - (await residentMib(shell))).toBeGreaterThan(60);
        expect(await shell.ask("sha256sum < /tmp/keep")).toBe(sum);

        expect(await monitor(directory, "device balloon target 0")).toBe("0 MiB");
        await expectActual(shell, directory, (mib) => mib === 0);
        const again = await shell.ask(
          `(${FILL}) > /tmp/a && (${FILL}) > /tmp/b && sha256sum < /tmp/a && sha256sum < /tmp/b`,
        );
        expect(again).toBe(`${sum}\n${sum}`);
        expect(await shell.ask("sha256sum < /tmp/keep")).toBe(sum);
      },
      { kernel: "cloud" },
    );
  });

  it("gives the host what the guest reports as free", async () => {
    await withDevices(
      () => [balloon],
      async (shell) => {
        await shell.ask(PREPARE);
        await shell.ask("dd if=/dev/zero of=/tmp/fill bs=1M count=120 2>/dev/null");
        const full = await residentMib(shell);
        await shell.ask("rm /tmp/fill");
        let now = full;
        for (let turn = 0; turn < 100 && full - now < 80; turn++) {
          await shell.ask("usleep 200000");
          now = await residentMib(shell);
        }
        expect(full - now).toBeGreaterThan(80);
        const sum = await shell.ask(`(${FILL}) > /tmp/a && sha256sum < /tmp/a`);
        expect(await shell.ask(`(${FILL}) | sha256sum`)).toBe(sum);
      },
      { kernel: "cloud" },
    );
  });

  it("gives way to a guest that is out of memory, and knows its statistics", async () => {
    await withDevices(
      () => [balloon],
      async (shell, directory) => {
        await shell.ask(PREPARE);
        expect(await monitor(directory, "device balloon target 120")).toBe("120 MiB");
        await expectActual(shell, directory, (mib) => mib === 120);
        const told = await statistics(directory);
        expect(told).not.toHaveProperty("isOld");
        await shell.ask("dd if=/dev/zero of=/tmp/fill bs=1M count=60 2>/dev/null");
        // The answer to the request before would not know yet.
        expect((await statistics(directory))["freeMemory"]).toBeLessThan(
          (told["freeMemory"] ?? 0) - (30 << 20),
        );
        await shell.ask("rm /tmp/fill");
        expect(told["totalMemory"]).toBe(
          1024 * Number(await shell.ask("awk '/MemTotal/ { print $2 }' /proc/meminfo")),
        );
        // More than is left: pages of a RAM disk cannot be dropped, so the balloon has to give way.
        const sum = await shell.ask(
          `for i in 1 2 3; do (${FILL}) > /tmp/$i || exit 1; done; sha256sum < /tmp/3`,
        );
        expect((await statistics(directory))["actualMib"]).toBeLessThan(120);
        expect(await shell.ask(`(${FILL}) | sha256sum`)).toBe(sum);
        expect((await shell.run("dmesg | grep -ciE 'killed process'")).text.trim()).toBe("0");
      },
      { kernel: "cloud" },
    );
  });
});
