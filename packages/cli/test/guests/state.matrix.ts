import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { initrdWith, stockGuest } from "./harness/find-guest.ts";
import { type CommandEnd, GuestProcess } from "./harness/guest-process.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const guest = await stockGuest("cloud");

/** What the guest does with nobody at its console: work on all processors, timers, files, processes. */
const PROFILE = `
for i in 1 2 3 4; do seq $((i * 4000)) | sha256sum & done; wait
seq 20000 | gzip -9 > /tmp/a.gz; gunzip < /tmp/a.gz | md5sum
echo HALF"WAY"
sleep 1; date
for i in 1 2 3 4 5 6 7 8 9; do echo $i | cat | cat & done | sort
awk 'BEGIN { for (i = 0; i < 2000; i++) s += sin(i); print s }'
cat /proc/interrupts /proc/uptime
echo FINI"SHED"
poweroff -f
`;

const run = async (...args: readonly string[]): Promise<CommandEnd> => {
  await using process = new GuestProcess(["run", "--timeout", "600", ...args], { stdin: "ignore" });
  return await process.ended;
};

/** Everything a snapshot holds. */
const digestOf = async (directory: string): Promise<string> => {
  const hash = createHash("sha256");
  for (const file of ["ram.pages", "manifest.json"]) hash.update(await readFile(join(directory, file)));
  return hash.digest("hex");
};

const instructionsIn = async (stats: string): Promise<number> =>
  (JSON.parse(await readFile(stats, "utf8")) as { readonly instructions: number }).instructions;

describe.each([1, 2, 4])("a virtual clock with %i vCPUs", (vcpus) => {
  it("makes runs alike to the bit, also those restored on the way", async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const profile = { kind: "file", path: "/etc/profile", bytes: new TextEncoder().encode(PROFILE) } as const;
    const files = await initrdWith(guest.files, [profile], at("initrd.img"));
    const machine = await machineFile(directory.path, linuxConfig({ ...files, vcpus, clock: "virtual" }));
    const saveOn = (text: string, name: string, ...more: readonly string[]): Promise<CommandEnd> =>
      run(machine, "--timeout", "600", "--save-on", text, at(name), "--stats", at(`${name}.json`), ...more);

    const straight = await saveOn("FINISHED", "straight");
    expect(straight).toMatchObject({ code: 0, err: expect.stringContaining("saved to") });
    expect(straight.out).toContain("HALFWAY");

    const again = await saveOn("FINISHED", "again");
    expect(again.out).toBe(straight.out);
    expect(await instructionsIn(at("again.json"))).toBe(await instructionsIn(at("straight.json")));
    expect(await digestOf(at("again"))).toBe(await digestOf(at("straight")));

    const half = await saveOn("HALFWAY", "half");
    const rest = await saveOn("FINISHED", "rest", "--restore", at("half"));
    expect(half.out + rest.out).toBe(straight.out);
    expect((await instructionsIn(at("half.json"))) + (await instructionsIn(at("rest.json")))).toBe(
      await instructionsIn(at("straight.json")),
    );
    expect(await digestOf(at("rest"))).toBe(await digestOf(at("straight")));

    expect(await run("--restore", at("rest"), "--timeout", "60")).toMatchObject({ code: 0, err: "" });
  });
});

describe.each([1, 2])("a snapshot of a guest with %i vCPUs", (vcpus) => {
  it("goes on in another process where it was", async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const machine = await machineFile(directory.path, linuxConfig({ ...guest.files, vcpus }));
    const snapshot = join(directory.path, "snapshot");
    const shell = await GuestShell.boot([machine, "--timeout", "300", "--save-on", "SAVE ME", snapshot]);
    await shell.ask("a=6; seq 1000 > /tmp/numbers; sleep 1000 & true");
    const saved = await shell.end('echo SAVE" "ME');
    expect(saved).toMatchObject({ code: 0, err: `northbridge: saved to ${snapshot}\n` });

    // Twice from the same snapshot: nothing in it is used up.
    for (const factor of [7, 8]) {
      await using again = GuestShell.restored(["--restore", snapshot, "--timeout", "300"]);
      expect(await again.ask(`echo $((a * ${factor})) $(md5sum < /tmp/numbers) $(nproc)`)).toMatch(
        new RegExp(`^${6 * factor} 53d025127ae99ab79e8502aae2d9bea6 +- ${vcpus}$`),
      );
      const [from = NaN, to = NaN] = (await again.ask("date +%s; sleep 2; date +%s")).split("\n").map(Number);
      expect(to - from).toBeGreaterThanOrEqual(2);
      expect(to - from).toBeLessThanOrEqual(3);
      expect(await again.ask("kill %1 && echo killed; for i in 1 2 3 4; do echo $i & done | sort")).toContain(
        "killed\n1\n2\n3\n4",
      );
      expect(await again.end()).toMatchObject({ code: 0, err: "" });
    }
  });
});

describe("a snapshot that does not fit", () => {
  it("is refused in one line", async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const machine = await machineFile(directory.path, linuxConfig(guest.files));
    expect(await run(machine, "--timeout", "60", "--save-on", "Linux version", at("good"))).toMatchObject({
      code: 0,
    });
    const text = await readFile(at("good/manifest.json"), "utf8");
    const manifest = JSON.parse(text) as object;
    const refused = async (args: readonly string[], says: RegExp): Promise<void> => {
      const { code, out, err } = await run(...args, "--timeout", "60");
      expect(err).toMatch(says);
      expect(err.trimEnd()).not.toContain("\n");
      expect({ code, out }).toEqual({ code: 2, out: "" });
    };
    const withManifest = async (name: string, text: string): Promise<string> => {
      await mkdir(at(name));
      await writeFile(join(at(name), "manifest.json"), text);
      for (const file of ["manifest.sha256", "ram.pages"])
        await writeFile(join(at(name), file), await readFile(at(`good/${file}`)));
      return at(name);
    };

    const newer = await withManifest("newer", JSON.stringify({ ...manifest, version: 3 }));
    await refused(
      ["--restore", newer],
      /newer: cannot restore: expected version 2 .*found 3; a newer Northbridge/,
    );
    const damaged = await withManifest("damaged", text.replace(/"rip": /, '"rip":  '));
    await refused(["--restore", damaged], /damaged: [^\n]*manifest\.json is damaged/);
    const foreign = await withManifest("foreign", JSON.stringify({ ...manifest, format: "qemu" }));
    await refused(["--restore", foreign], /foreign: [^\n]*expected the format .*found "qemu"/);
    const broken = await withManifest("broken", "no manifest");
    await refused(["--restore", broken], /broken: [^\n]*manifest\.json is not JSON/);
    const short = await withManifest("short", text);
    await writeFile(join(short, "ram.pages"), "short");
    await refused(["--restore", short], /short: [^\n]*expected \d+ bytes in ram\.pages, found 5/);
    await mkdir(at("empty"));
    await refused(["--restore", at("empty")], /empty: [^\n]*there is no manifest\.json in it/);
    await refused(["--restore", at("missing")], /missing: /);
    const other = await machineFile(directory.path, linuxConfig({ ...guest.files, vcpus: 2 }), "other");
    await refused([other, "--restore", at("good")], /vcpus: this machine has 2, the saved one 1/);
  });

  it("is not written to a place that is taken or read-only", async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const machine = await machineFile(directory.path, linuxConfig(guest.files));
    await mkdir(at("taken"));
    await writeFile(at("taken/file"), "");
    expect(await run(machine, "--save-on", "Linux version", at("taken"))).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^northbridge: [^\n]*taken: [^\n]*expected a new or empty directory\n$/),
    });
    expect(await readdir(at("taken"))).toEqual(["file"]);

    await writeFile(at("file"), "");
    expect(await run(machine, "--save-on", "Linux version", at("file/snapshot"))).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^northbridge: [^\n]*snapshot: cannot save the machine: [^\n]*\n$/),
    });

    // Even root cannot make a directory below /proc.
    const place = process.getuid?.() === 0 ? "/proc/snapshot" : at("locked/snapshot");
    await mkdir(at("locked"));
    await chmod(at("locked"), 0o555);
    expect(await run(machine, "--save-on", "Linux version", place)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^northbridge: [^\n]*snapshot: cannot save the machine: [^\n]*\n$/),
    });
    expect(await readdir(at("locked"))).toEqual([]);
  });
});
