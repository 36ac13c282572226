import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, type LinuxMachine, machineFile, scratch, TUNED } from "./harness/machine-file.ts";

const guest = await stockGuest("cloud");

/** Boots a machine, and types what ends it. */
const endBy = async (
  command: string,
  machine: Partial<LinuxMachine> = {},
): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }> => {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const file = await machineFile(directory.path, linuxConfig({ ...guest.files, ...machine }));
  await using shell = await GuestShell.boot([file, "--timeout", "300"]);
  return await shell.end(command);
};

it.each([1, 2])("powers off on %i vCPUs: 0", async (vcpus) => {
  expect(await endBy("poweroff -f", { vcpus })).toMatchObject({ code: 0, err: "" });
});

it.each([1, 2])("resets on %i vCPUs where the config says stop: 4", async (vcpus) => {
  expect(await endBy("reboot -f", { vcpus })).toMatchObject({ code: 4 });
});

it.each([1, 2])("boots again on %i vCPUs where the config says restart", async (vcpus) => {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const config = linuxConfig({ ...guest.files, vcpus, onReset: "restart" });
  const file = await machineFile(directory.path, config);
  await using shell = await GuestShell.boot([file, "--timeout", "300"]);
  shell.process.type("reboot -f\n");
  await shell.process.waitFor(/Linux version/);
  await shell.process.waitFor(/\n~ # (\x1b\[6n)?$/);
  shell.process.type("nproc; poweroff -f\n");
  const { code, out } = await shell.process.ended;
  expect(out).toMatch(new RegExp(`\\n${vcpus}\\r?\\n`));
  expect(code).toBe(0);
});

it.each([
  [1, ""],
  [2, ""],
  [1, " panic=-1"],
  [1, " panic=1"],
])("says that the kernel panicked, on %i vCPUs with%s: 3", async (vcpus, option) => {
  expect(await endBy("echo c > /proc/sysrq-trigger", { vcpus, cmdline: TUNED + option })).toMatchObject({
    code: 3,
    err: expect.stringContaining("the guest panicked: sysrq triggered crash"),
  });
});

it("takes no log of a panic that a program prints for one, however silent it is then: 0", async () => {
  const log = [
    "[ 1.0] Kernel panic - not syncing: old",
    "[ 1.1] ---[ end Kernel panic - not syncing: old ]---",
  ];
  const printed = log.map((line) => `echo '${line}'`).join("; ");
  expect(await endBy(`${printed}; sleep 5; poweroff -f`)).toMatchObject({ code: 0, err: "" });
});

it("says that the guest triple-faulted: 3", async () => {
  await using directory = await scratch();
  // lidt [0x2000], where the limit is 0: the first exception finds no gate. ud2
  await writeFile(join(directory.path, "guest"), Uint8Array.of(0x0f, 0x01, 0x1e, 0x00, 0x20, 0x0f, 0x0b));
  const file = await machineFile(directory.path, {
    machine: "pc-1",
    memory: { mib: 4 },
    boot: { flat: { image: "guest", gpa: 0x1000, mode: "real" } },
  });
  await using run = new GuestProcess(["run", file, "--timeout", "60"]);
  expect(await run.ended).toMatchObject({
    code: 3,
    err: expect.stringContaining("the guest triple-faulted"),
  });
});

it("gives up after --timeout: 124", async () => {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const file = await machineFile(directory.path, linuxConfig(guest.files));
  await using run = new GuestProcess(["run", file, "--timeout", "1.5"]);
  expect(await run.ended).toMatchObject({ code: 124, err: expect.stringContaining("within 1.5 s") });
});
