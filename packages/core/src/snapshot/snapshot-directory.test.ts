import { spawnSync } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { writePages } from "./pages.ts";
import { expectUnused, makeDirectory } from "./snapshot-directory.ts";

let directory: string;
beforeEach(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), "northbridge-snapshot-")));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true, force: true });
});

const fill = (partial: string): Promise<void> => writeFile(join(partial, "ram.pages"), "x");

describe("the directory of a snapshot", () => {
  it.skipIf(!existsSync("/proc/self/fd"))(
    "is synced with those that name it before and after it is renamed (needs /proc/self/fd)",
    async () => {
      const probe = await open(directory, "r");
      const handles = Object.getPrototypeOf(probe) as { sync(): Promise<void>; readonly fd: number };
      const synced: string[] = [];
      const whole = vi.spyOn(handles, "sync").mockImplementation(function (this: { readonly fd: number }) {
        synced.push(readlinkSync(`/proc/self/fd/${this.fd}`).replace(directory, ""));
        return Promise.resolve();
      });
      await makeDirectory(join(directory, "deep", "er", "snap"), fill);
      await probe.close();
      expect(whole).toHaveBeenCalledTimes(4);
      expect(synced[0]).toMatch(/^\/deep\/er\/\.snap\.partial-/);
      expect(synced.slice(1)).toEqual(["/deep/er", "/deep", ""]);
    },
  );

  it("takes the place of what a process that died left of it, and of nothing else", async () => {
    // A process that is killed in the middle of its save, as by a second signal.
    const source = `
      import { makeDirectory } from ${JSON.stringify(new URL("snapshot-directory.ts", import.meta.url).href)};
      await makeDirectory(process.argv[1], async () => process.kill(process.pid, "SIGKILL"));`;
    const args = ["--conditions=northbridge-source", "--input-type=module", "-e", source];
    expect(spawnSync(process.execPath, [...args, join(directory, "snap")]).signal).toBe("SIGKILL");
    expect(spawnSync(process.execPath, [...args, join(directory, "other")]).signal).toBe("SIGKILL");
    const others = [".snap.partial-mine", `.snap.partial-00000000-1-abcdef`];
    for (const name of others) await mkdir(join(directory, name));
    expect(await readdir(directory)).toHaveLength(4);
    await makeDirectory(join(directory, "snap"), async (partial) => {
      // Another machine of this process saves to the same place: its part stays.
      await expect(
        makeDirectory(join(directory, "snap"), () => Promise.reject(new Error("late"))),
      ).rejects.toThrow();
      await fill(partial);
    });
    const left = await readdir(directory);
    expect(left.filter((name) => name.includes("snap"))).toEqual([...others.sort(), "snap"]);
    expect(left.filter((name) => name.startsWith(".other.partial-"))).toHaveLength(1);
  });

  it("is where a symbolic link leads", async () => {
    await mkdir(join(directory, "real"));
    await symlink("real", join(directory, "link"));
    await makeDirectory(join(directory, "link"), fill);
    expect(await readFile(join(directory, "real", "ram.pages"), "utf8")).toBe("x");
  });

  it("is refused before anything is written where it cannot be", async () => {
    await symlink("nowhere", join(directory, "dangling"));
    await writeFile(join(directory, "file"), "");
    const write = vi.fn(fill);
    for (const [path, reason] of [
      [join(directory, "dangling"), "it is a symbolic link to what is not there"],
      [join(directory, "file"), "expected a new or empty directory"],
      ["/proc", "it is a mount point, which cannot be replaced: name a new directory in it"],
    ] as const) {
      const refusal = { code: "NB_SNAPSHOT", message: `${path}: cannot save the machine: ${reason}` };
      await expect(expectUnused(path)).rejects.toMatchObject(refusal);
      await expect(makeDirectory(path, write)).rejects.toMatchObject(refusal);
    }
    expect(write).not.toHaveBeenCalled();
  });
});

describe("pages that are saved", () => {
  it("are looked at in turns, so that others of the process get theirs", async () => {
    const compare = vi.spyOn(Buffer.prototype, "compare");
    const file = await open(join(directory, "pages"), "w");
    const perTurn: number[] = [];
    let goesOn = true;
    const watch = (): void => {
      perTurn.push(compare.mock.calls.length);
      compare.mockClear();
      if (goesOn) setImmediate(watch);
    };
    setImmediate(watch);
    expect(await writePages(new Uint8Array(48 << 20), file)).toEqual([]);
    goesOn = false;
    await file.close();
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(4096);
  });

  it("may end in a part of one, as a disk does", async () => {
    const file = await open(join(directory, "pages"), "w");
    const bytes = new Uint8Array(2 * 4096 + 512);
    bytes[8191 + 512] = 7;
    expect((await writePages(bytes, file)).map(([first, count]) => [first, count])).toEqual([[2, 1]]);
    await file.close();
    expect((await readFile(join(directory, "pages"))).length).toBe(512);
  });
});
