import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { DEFAULT, linuxConfig, machineFile, scratch, TUNED } from "./harness/machine-file.ts";

const FLAVOURS = ["cloud", "full"] as const;
const CMDLINES = [
  ["tuned", TUNED],
  ["default", DEFAULT],
] as const;
const VCPUS = [1, 2, 4];
const MEMORY_MIB = [128, 512, 3072];
/** The kernel keeps this much of the RAM to itself at most: itself, page tables, reserved areas. */
const KERNEL_MIB = 110;

const NUMBERS = Array.from({ length: 5000 }, (_, index) => `${index + 1}\n`).join("");
const DIGEST = createHash("sha256").update(NUMBERS).digest("hex");

const cases = CMDLINES.flatMap(([name, cmdline]) =>
  VCPUS.flatMap((vcpus) => MEMORY_MIB.map((mib) => ({ name, cmdline, vcpus, mib }))),
);

describe.each(FLAVOURS)("the %s kernel", async (flavour) => {
  const guest = await stockGuest(flavour);

  it.each(cases)("boots: $name command line, $vcpus vCPUs, $mib MiB", async (machine) => {
    const context = { cmdline: machine.cmdline, vcpus: machine.vcpus, mib: machine.mib };
    await using directory = await scratch();
    if ("missing" in guest) throw new Error(guest.missing);
    const file = await machineFile(directory.path, linuxConfig({ ...guest.files, ...context }));
    await using shell = await GuestShell.boot([file, "--timeout", "600"]);
    expect(await shell.ask("uname -m")).toBe("x86_64");
    expect(await shell.ask("nproc")).toBe(String(machine.vcpus));
    const totalMib = Number(await shell.ask("awk '/^MemTotal/ { print $2 }' /proc/meminfo")) / 1024;
    expect(totalMib).toBeGreaterThan(machine.mib - KERNEL_MIB);
    expect(totalMib).toBeLessThanOrEqual(machine.mib);
    expect(await shell.ask("seq 5000 | sha256sum")).toContain(DIGEST);
    expect(await shell.run("dmesg | grep -iE 'call trace|bug:|warning:|rcu.*stall|lockup'")).toMatchObject({
      text: "",
    });
    expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  });
});
