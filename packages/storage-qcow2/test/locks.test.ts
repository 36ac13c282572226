import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { inDirectory, qemu, qemuImg } from "./qemu.ts";

const canLock = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!canLock || qemuImg === undefined)("locks of images", () => {
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
