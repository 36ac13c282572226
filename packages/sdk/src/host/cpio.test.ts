import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { appendToInitramfs, type CpioEntry, writeCpio } from "./cpio.ts";

interface ReadMember {
  readonly name: string;
  readonly mode: number;
  readonly content: string;
  readonly device: string;
}

/** Reads "newc" as the kernel does: archives behind one another, zeroes between them. */
function readCpio(archive: Uint8Array): ReadMember[] {
  const text = new TextDecoder("latin1").decode(archive);
  const members: ReadMember[] = [];
  for (let at = 0; at < archive.length; ) {
    if (archive[at] === 0) {
      at++;
      continue;
    }
    expect(text.slice(at, at + 6)).toBe("070701");
    expect(at % 4).toBe(0);
    const field = (index: number): number =>
      Number.parseInt(text.slice(at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameSize = field(11);
    const start = Math.ceil((at + 110 + nameSize) / 4) * 4;
    const name = text.slice(at + 110, at + 110 + nameSize - 1);
    expect(text[at + 110 + nameSize - 1]).toBe("\0");
    const size = field(6);
    if (name !== "TRAILER!!!") {
      const content = text.slice(start, start + size);
      members.push({ name, mode: field(1), content, device: `${field(9)}:${field(10)}` });
    }
    at = Math.ceil((start + size) / 4) * 4;
  }
  return members;
}

const bytes = (content: string): Uint8Array => Buffer.from(content, "latin1");

const TREE: readonly CpioEntry[] = [
  { kind: "file", path: "/init", mode: 0o755, bytes: bytes("#!/bin/sh\n") },
  { kind: "file", path: "/usr/share/doc/odd", bytes: bytes("abc") },
  { kind: "symlink", path: "/bin/sh", target: "busybox" },
  { kind: "directory", path: "/tmp", mode: 0o1777 },
  { kind: "characterDevice", path: "/dev/console", major: 5, minor: 1 },
];

describe("writeCpio", () => {
  it("writes members that read back, each after its directory", () => {
    const members = readCpio(writeCpio(TREE));
    expect(members.map(({ name, mode }) => [name, mode.toString(8)])).toEqual([
      ["init", "100755"],
      ["usr", "40755"],
      ["usr/share", "40755"],
      ["usr/share/doc", "40755"],
      ["usr/share/doc/odd", "100644"],
      ["bin", "40755"],
      ["bin/sh", "120777"],
      ["tmp", "41777"],
      ["dev", "40755"],
      ["dev/console", "20600"],
    ]);
    expect(members.find(({ name }) => name === "bin/sh")?.content).toBe("busybox");
    expect(members.find(({ name }) => name === "dev/console")?.device).toBe("5:1");
  });

  it("keeps names and contents of every length", () => {
    const files = fc.uniqueArray(
      fc.record({
        name: fc.string({ unit: fc.constantFrom("a", "b", "-", "Z", "9"), minLength: 1, maxLength: 20 }),
        content: fc.string({ unit: fc.constantFrom("\0", "\n", "0", "ÿ"), maxLength: 20 }),
      }),
      { selector: ({ name }) => name, maxLength: 10 },
    );
    fc.assert(
      fc.property(files, (list) => {
        const entries = list.map(
          ({ name, content }): CpioEntry => ({ kind: "file", path: `/${name}`, bytes: bytes(content) }),
        );
        expect(readCpio(writeCpio(entries)).map(({ name, content }) => ({ name, content }))).toEqual(list);
      }),
    );
  });

  it("lets a later entry replace an earlier one, in its place", () => {
    const again: CpioEntry = { kind: "file", path: "/init", bytes: bytes("new") };
    const members = readCpio(writeCpio([...TREE, again]));
    expect(members.filter(({ name }) => name === "init").map(({ content }) => content)).toEqual(["new"]);
    expect(members[0]?.name).toBe("init");
  });

  it.each(["init", "", "/", "//x", "/a/../b", "/a/./b", "/a/"])("refuses the path %j", (path) => {
    expect(() => writeCpio([{ kind: "directory", path }])).toThrow(RangeError);
  });

  const cpioMissing = spawnSync("cpio", ["--version"]).error !== undefined;
  it.skipIf(cpioMissing)("writes what cpio unpacks (needs cpio)", () => {
    const directory = mkdtempSync(join(tmpdir(), "northbridge-cpio-"));
    try {
      // Device nodes take privileges to unpack.
      const archive = writeCpio(TREE.filter(({ kind }) => kind !== "characterDevice"));
      execFileSync("cpio", ["-i", "--quiet", "--no-absolute-filenames"], { cwd: directory, input: archive });
      expect(readFileSync(join(directory, "usr/share/doc/odd"), "utf8")).toBe("abc");
      expect(readlinkSync(join(directory, "bin/sh"))).toBe("busybox");
      expect(statSync(join(directory, "init")).mode & 0o777).toBe(0o755);
      expect(statSync(join(directory, "tmp")).mode & 0o1777).toBe(0o1777);
      const listing = execFileSync("cpio", ["-tv", "--quiet"], { input: writeCpio(TREE), encoding: "utf8" });
      expect(listing).toMatch(/^crw-------.* 5, +1 .*dev\/console$/m);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("appendToInitramfs", () => {
  it("keeps the archive that was there and aligns the one behind it", () => {
    const first = writeCpio(TREE);
    const both = appendToInitramfs(first.subarray(0, first.length), [
      { kind: "file", path: "/etc/extra", bytes: bytes("x") },
    ]);
    expect(readCpio(both).map(({ name }) => name)).toEqual([
      ...readCpio(first).map(({ name }) => name),
      "etc",
      "etc/extra",
    ]);
  });
});
