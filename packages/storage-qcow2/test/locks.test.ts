import { spawn } from "node:child_process";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { ImageError } from "../src/image-error.ts";
import { inDirectory, qemu, qemuImg } from "./qemu.ts";
import { ended, make, SIZE } from "./writing-guest.ts";

const canLock = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!canLock || qemuImg === undefined)("locks of images (needs Linux on x86-64)", () => {
  it("keep a second writer out, whoever it is", async () => {
    await inDirectory((directory) => {
      const path = join(directory, "a.qcow2");
      qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
      const writer = openImage(path, { format: "qcow2" });
      expect(() => openImage(path, { format: "qcow2" })).toThrow("in use");
      expect(() => openImage(path, { format: "qcow2", readOnly: true })).toThrow("in use");
      openImage(path, { format: "qcow2", readOnly: true, forceShare: true }).closeNow();
      expect(() => openImage(path, { format: "qcow2", forceShare: true })).toThrow("for reading only");
      expect(qemu("qemu-io", "-f", "qcow2", "-c", "write 0 512", path)).toMatchObject({ status: 1 });
      expect(qemu("qemu-img", "info", path).err).toContain("lock");
      expect(qemu("qemu-img", "info", "-U", path)).toMatchObject({ status: 0 });
      writer.closeNow();
      expect(qemu("qemu-io", "-f", "qcow2", "-c", "write 0 512", path)).toMatchObject({ status: 0 });
    });
  });

  it("let readers share, QEMU's and ours", async () => {
    await inDirectory((directory) => {
      const path = join(directory, "a.qcow2");
      qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
      const one = openImage(path, { format: "qcow2", readOnly: true });
      const two = openImage(path, { format: "qcow2", readOnly: true });
      expect(qemu("qemu-img", "info", path)).toMatchObject({ status: 0 });
      expect(qemu("qemu-io", "-f", "qcow2", "-c", "write 0 512", path)).toMatchObject({ status: 1 });
      expect(() => openImage(path, { format: "qcow2" })).toThrow("in use");
      one.closeNow();
      two.closeNow();
    });
  });

  it("see a writer of QEMU, of raw images too", async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.raw");
      writeFileSync(path, new Uint8Array(1 << 20));
      const qemuIo = spawn("qemu-io", ["-f", "raw", path], { stdio: ["pipe", "pipe", "ignore"] });
      await new Promise((resolve) => {
        qemuIo.stdout.once("data", resolve);
        qemuIo.stdin.write("write 0 512\n");
      });
      expect(() => openImage(path, { format: "raw" })).toThrow("in use");
      const ended = new Promise((resolve) => qemuIo.on("close", resolve));
      qemuIo.stdin.end("quit\n");
      await ended;
      const writer = openImage(path, { format: "raw" });
      expect(qemu("qemu-io", "-f", "raw", "-c", "write 0 512", path)).toMatchObject({ status: 1 });
      writer.closeNow();
    });
  });

  it.each([
    ["qcow2", "image", {}],
    ["raw", "image", {}],
    ["qcow2", "data file", {}],
    ["qcow2", "image", { direct: true }],
  ] as const)(
    "keep others out of a %s %s at every moment while a job opens it anew, %j",
    async (format, what, options) => {
      await inDirectory(async (directory) => {
        const path = join(directory, "base");
        const data = join(directory, "data");
        const written = what === "data file" ? ["-f", "raw", data] : ["-f", format, path];
        const write = (): string =>
          qemu("qemu-io", "-c", "write -P 9 0 512", ...written).err.replaceAll(/^.* lock.*$/gms, "locked");
        if (what === "data file") writeFileSync(data, "");
        if (format === "qcow2") make(path, what === "data file" ? { dataFile: data } : {});
        else writeFileSync(path, new Uint8Array(SIZE));
        let attempts: string[] = [];
        let failsAs: "closed" | "open" | undefined;
        const disk = new ManagedDisk(openImage(path, { format, ...options }), (name, more) => {
          attempts.push(write());
          if (failsAs === "closed") throw new ImageError(name, "host", "too many open files");
          const image = openImage(name, { ...options, ...more });
          attempts.push(write());
          if (failsAs === undefined) return image;
          image.closeNow();
          throw new ImageError(name, "host", "no memory");
        });
        const tried = (): string[] => {
          attempts.push(write());
          const all = attempts;
          attempts = [];
          return all;
        };
        const byte = (): number | undefined => {
          const bytes = new Uint8Array(1);
          disk.image.readAt(0, bytes);
          return bytes[0];
        };
        await disk.write(0, [new Uint8Array(512).fill(1)]);
        disk.jobs.snapshot(join(directory, "top"));
        expect(tried()).toEqual(["locked", "locked", "locked"]);
        const read = qemu("qemu-io", "-r", "-f", format, "-c", "read -P 1 0 512", path);
        expect(read, read.err).toMatchObject({ status: 0 });
        await disk.write(0, [new Uint8Array(512).fill(2)]);

        for (failsAs of ["closed", "open"] as const) {
          expect(() => disk.jobs.commit()).toThrow(/too many open files|no memory/);
          expect(new Set(tried())).toEqual(new Set(["locked"]));
          // Who only reads is not kept away, as before.
          expect(qemu("qemu-img", "info", "-f", format, path)).toMatchObject({ status: 0 });
          expect(byte()).toBe(2);
        }
        failsAs = undefined;
        const reader = openImage(path, { format, readOnly: true, asBacking: true });
        expect(() => disk.jobs.commit()).toThrow(
          "the image is in use: another process does not allow others to write",
        );
        expect(tried()).toEqual(["locked"]);
        expect(qemu("qemu-img", "info", "-f", format, path)).toMatchObject({ status: 0 });
        reader.closeNow();

        disk.jobs.commit();
        expect(tried()).toEqual(["locked", "locked", "locked"]);
        expect(await ended(disk)).toMatchObject({ state: "done", error: undefined });
        expect(tried()).toEqual(["locked"]);
        expect(byte()).toBe(2);

        // A snapshot whose lower image cannot be opened anew keeps it, and its locks.
        failsAs = "open";
        disk.jobs.snapshot(join(directory, "again"));
        expect(tried()).toEqual(["locked", "locked", "locked"]);
        expect(byte()).toBe(2);
        await disk.close();
        expect(write()).not.toContain("locked");
      });
    },
  );

  it("belong to a file: one that took its name is not opened in its place", async () => {
    await inDirectory(async (directory) => {
      const path = make(join(directory, "base"));
      make(join(directory, "top"), { backingFile: "base", backingFormat: "qcow2" });
      const disk = new ManagedDisk(openImage(join(directory, "top"), { format: "qcow2" }), openImage);
      renameSync(path, join(directory, "away"));
      make(path);
      expect(() => disk.jobs.commit()).toThrow("another file has this name since the image was opened");
      await disk.close();
    });
  });

  it("show the size that the file has once it is locked", async () => {
    await inDirectory((directory) => {
      const path = join(directory, "a.raw");
      writeFileSync(path, new Uint8Array(512));
      const file = NodeFile.open(path, { readOnly: true, sharing: "later" });
      // Whoever had it locked until now made it longer.
      writeFileSync(path, new Uint8Array(4096).fill(7));
      file.lock("readers");
      expect(file.size()).toBe(4096);
      const bytes = new Uint8Array(4096);
      file.read(0, bytes);
      expect(bytes[4095]).toBe(7);
      file.close();
    });
  });
});
