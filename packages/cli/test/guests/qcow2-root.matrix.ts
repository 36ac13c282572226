import { join } from "node:path";
import { expect, it } from "vitest";
import { initrdWith, stockGuest } from "./harness/find-guest.ts";
import { GuestProcess } from "./harness/guest-process.ts";
import { missingTools, runTool } from "./harness/host-tools.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { ROOT_INIT, rootFileSystem } from "./harness/root-file-system.ts";

const guest = await stockGuest("cloud");
const missing = missingTools("mke2fs", "e2fsck", "qemu-img");
if (missing !== undefined) process.stderr.write(`qcow2 root file system: skipped, since ${missing}\n`);

const KILLS = 2;

it.skipIf(missing !== undefined)(
  "a system on a qcow2 overlay over a compressed image has what it synced after it was killed",
  { timeout: 1_800_000 },
  async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const img = async (...args: readonly string[]): Promise<void> => {
      await using process = new GuestProcess(["img", ...args], { stdin: "ignore" });
      expect(await process.ended).toMatchObject({ code: 0 });
    };
    await rootFileSystem(guest.files.initrd, at("root"), at("root.img"));
    await img("convert", "-c", "-f", "raw", "-O", "qcow2", at("root.img"), at("base.qcow2"));
    await img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("disk.qcow2"));
    const files = await initrdWith(guest.files, [ROOT_INIT], at("initrd.img"));
    const devices = [{ plugin: "virtioBlk", disk: { kind: "qcow2", path: at("disk.qcow2") } }];
    const machine = await machineFile(directory.path, linuxConfig({ ...files, devices }));
    const boot = async (): Promise<GuestProcess> => {
      const run = new GuestProcess(["run", machine, "--timeout", "900"]);
      await run.waitFor(/northbridge login: $/);
      run.type("root\n");
      await run.waitFor(/# (\x1b\[6n)?$/);
      return run;
    };

    let stable = 0;
    for (let kill = 0; kill < KILLS; kill += 1) {
      await using run = await boot();
      run.type(
        `i=${stable}; while :; do i=$((i+1)); seq $i $((i+500)) > /root/file$i; sync; echo "[stable ""$i]"; done\n`,
      );
      await run.waitFor(new RegExp(`\\[stable ${stable + 6}\\]`));
      run.kill("SIGKILL");
      await run.ended;
      for (const [, number] of run.out.matchAll(/\[stable (\d+)\]/g))
        stable = Math.max(stable, Number(number));
      const check = await runTool(
        "qemu-img",
        "check",
        "--output=json",
        "-f",
        "qcow2",
        at("disk.qcow2"),
      ).catch(String);
      expect(check).not.toContain("corruptions");
    }
    await using run = await boot();
    run.type(
      `i=1; while [ $i -le ${stable} ]; do seq $i $((i+500)) | cmp - /root/file$i || echo "[bad ""$i]"; i=$((i+1)); done; ` +
        'echo "[compared ""all]"; poweroff\n',
    );
    await run.waitFor(/\[compared all\]/);
    const { code, out } = await run.ended;
    expect(out).not.toMatch(/\[bad \d+\]/);
    expect(code).toBe(0);
    await img("convert", "-f", "qcow2", "-O", "raw", at("disk.qcow2"), at("after.img"));
    await runTool("e2fsck", "-fn", at("after.img"));
  },
);
