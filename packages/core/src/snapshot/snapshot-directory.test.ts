import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readlinkSync } from "node:fs";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasSystemCalls } from "@northbridge/linux";
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

/** A program of its own, with this module in it. */
const RUN = ["--conditions=northbridge-source", "--input-type=module", "-e"];
const MODULE = JSON.stringify(new URL("snapshot-directory.ts", import.meta.url).href);

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
      expect(synced[0]).toMatch(/^\/deep\/er\/\.snap\.(partial|unlocked)-/);
      expect(synced.slice(1)).toEqual(["/deep/er", "/deep", ""]);
    },
  );

  it.skipIf(!hasSystemCalls())(
    "takes the place of what a process that died left of it, and of nothing else (needs flock)",
    async () => {
      // A process that is killed in the middle of its save, as by a second signal.
      const source = `
      import { makeDirectory } from ${MODULE};
      await makeDirectory(process.argv[1], async () => process.kill(process.pid, "SIGKILL"));`;
      const args = [...RUN, source];
      expect(spawnSync(process.execPath, [...args, join(directory, "snap")]).signal).toBe("SIGKILL");
      expect(spawnSync(process.execPath, [...args, join(directory, "other")]).signal).toBe("SIGKILL");
      const others = [".snap.partial-mine", ".snap.partial-00000000-1-abcdef"];
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
    },
  );

  it.skipIf(!hasSystemCalls())(
    "is left to a process of another name space of process ids that fills it (needs flock)",
    async () => {
      // Its process id is nobody's here, or somebody else's: what says that it lives is the lock.
      const source = `
      import { writeFileSync } from "node:fs";
      import { makeDirectory } from ${MODULE};
      await makeDirectory(process.argv[1], async (partial) => {
        writeFileSync(partial + "/ram.pages", "theirs");
        console.log("filling");
        await new Promise((resolve) => process.stdin.resume().once("end", resolve));
      });`;
      const args = [...RUN, source, join(directory, "snap")];
      // A name space of one's own needs rights; the kernel's answer to "is there such a process?" is played instead.
      const other = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
      try {
        await once(other.stdout, "data");
        vi.spyOn(process, "kill").mockImplementation(() => {
          throw Object.assign(new Error("no such process"), { code: "ESRCH" });
        });
        await expect(
          makeDirectory(join(directory, "snap"), () => Promise.reject(new Error("late"))),
        ).rejects.toThrow("late");
        vi.restoreAllMocks();
        other.stdin.end();
        expect(await once(other, "exit")).toEqual([0, null]);
        expect(await readFile(join(directory, "snap", "ram.pages"), "utf8")).toBe("theirs");
      } finally {
        other.kill("SIGKILL");
      }
    },
  );

  it("may be in one that may be written and not read", async () => {
    const closed = join(directory, "closed");
    await mkdir(closed);
    const source = `
      import { writeFile } from "node:fs/promises";
      import { makeDirectory } from ${MODULE};
      if (process.getuid() === 0) process.setuid(65534); // root reads everything
      await makeDirectory(process.argv[1], (partial) => writeFile(partial + "/ram.pages", "x"));`;
    await chown(closed, process.getuid?.() === 0 ? 65534 : -1, -1);
    await chmod(directory, 0o711);
    await chmod(closed, 0o333);
    const { stderr } = spawnSync(process.execPath, [...RUN, source, join(closed, "snap")], {
      encoding: "utf8",
    });
    await chmod(closed, 0o700);
    expect(stderr).toBe("");
    expect(await readFile(join(closed, "snap", "ram.pages"), "utf8")).toBe("x");
  });

  it("stays where it is once it has its name, also where the host fails to write that down", async () => {
    const probe = await open(directory, "r");
    const handles = Object.getPrototypeOf(probe) as { sync(): Promise<void> };
    await probe.close();
    vi.spyOn(handles, "sync")
      .mockResolvedValueOnce()
      .mockRejectedValueOnce(Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO" }));
    const path = join(directory, "snap");
    await expect(makeDirectory(path, fill)).rejects.toMatchObject({
      code: "NB_SNAPSHOT",
      message: `${path}: the machine is saved, but may be lost in a power failure: EIO: i/o error, fsync`,
    });
    expect(await readdir(directory)).toEqual(["snap"]);
    expect(await readFile(join(path, "ram.pages"), "utf8")).toBe("x");
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
