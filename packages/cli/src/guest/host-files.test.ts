import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hostFiles, hostProgram, parseLdd } from "./host-files.ts";

describe("parseLdd", () => {
  it("takes libraries and the loader, not the kernel's own", () => {
    const listing = [
      "\tlinux-vdso.so.1 (0x00007ffd3a5f2000)",
      "\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f0a5c2d3000)",
      "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0a5c0f2000)",
      "\t/lib64/ld-linux-x86-64.so.2 (0x00007f0a5c310000)",
    ].join("\n");
    expect(parseLdd(listing)).toEqual([
      "/lib/x86_64-linux-gnu/libz.so.1",
      "/lib/x86_64-linux-gnu/libc.so.6",
      "/lib64/ld-linux-x86-64.so.2",
    ]);
  });

  it("refuses a program whose library is not there", () => {
    expect(() => parseLdd("\tlibgone.so.3 => not found\n")).toThrow(
      "libgone.so.3: expected the library on this host, found none",
    );
  });
});

describe("hostFiles", () => {
  it("follows links and keeps modes", async () => {
    const directory = await mkdtemp(join(tmpdir(), "northbridge-files-"));
    try {
      await mkdir(join(directory, "sub"), { mode: 0o755 });
      await writeFile(join(directory, "sub", "tool"), "x", { mode: 0o750 });
      await symlink("sub/tool", join(directory, "alias"));
      const entries = await hostFiles(directory, "/opt");
      expect(entries.map(({ path, kind }) => [path, kind])).toEqual([
        ["/opt", "directory"],
        ["/opt/alias", "file"],
        ["/opt/sub", "directory"],
        ["/opt/sub/tool", "file"],
      ]);
      expect(entries[1]).toMatchObject({ mode: 0o750 });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it("names what is not there", async () => {
    await expect(hostFiles("/nonexistent/file", "/x")).rejects.toMatchObject({
      code: "NB_HOST",
      message: "/nonexistent/file: expected a file for the guest, found none",
    });
  });
});

describe("hostProgram", () => {
  it("brings a dynamic program with its loader", async () => {
    const paths = (await hostProgram("/bin/sh")).map(({ path }) => path);
    expect(paths[0]).toBe("/bin/sh");
    expect(paths.some((path) => /\/ld-[^/]*\.so/.test(path))).toBe(true);
    expect(paths.some((path) => /\/libc\.(so|musl)/.test(path))).toBe(true);
  });
});
