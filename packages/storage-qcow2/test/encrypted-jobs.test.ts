import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { ManagedDisk } from "../src/graph/disk-jobs.ts";
import { NodeFile } from "../src/file/node-file.ts";
import type { ImageOpener } from "../src/graph/job.ts";
import { checkQcow2 } from "../src/qcow2/check/check-qcow2.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random } from "./qemu.ts";
import { contentOf, ended, fill, Guest, make, open, same, some } from "./writing-guest.ts";

it("an encrypted disk is copied with its keys, or in the clear where that is said", {
  timeout: 60_000,
}, async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const passphrase = new TextEncoder().encode("open sesame");
    make(at("base"), { encryption: { passphrase, iterationMs: 1 } });
    const opener: ImageOpener = (name, more) => openImage(name, { passphrase, ...more });
    const locked = { passphrase };
    const disk = new ManagedDisk(opener(at("base"), { format: "qcow2" }), opener);
    fill(disk.image, new Random(1));
    if (!(disk.image instanceof Qcow2Image)) throw new Error("no qcow2 image");
    disk.image.bitmaps.add("b", 65536);
    const done = async (): Promise<void> =>
      expect(await ended(disk)).toMatchObject({ state: "done", error: undefined });

    disk.jobs.backup(at("full"), "b");
    await done();
    await using guest = new Guest(disk, 1);
    await some(guest);
    await guest.stop();
    disk.jobs.backup(at("more"), "b", at("full"));
    await done();
    disk.jobs.snapshot(at("top"));
    disk.jobs.backup(at("clear"), undefined, undefined, { plain: true });
    await done();
    for (const name of ["more", "top", "clear"]) {
      const copy = open(at(name), { readOnly: true, forceShare: true, ...(name === "clear" ? {} : locked) });
      expect(same(contentOf(copy), guest.model), name).toBe(true);
      expect(copy.meta.isEncrypted).toBe(name !== "clear");
      copy.closeNow();
    }
    disk.jobs.stream();
    await done();
    await disk.jobs.mirror(at("copy"));
    await ended(disk);
    await disk.jobs.complete(true);
    expect(disk.location).toBe(at("copy"));
    expect(same(contentOf(disk.image), guest.model)).toBe(true);
    await expect(disk.jobs.mirror("nbd:unix:nowhere")).rejects.toThrow(
      /copy: the image is encrypted, and mirror to nbd:unix:nowhere would have its content in the clear: expected --plain$/,
    );
    await disk.close();
    for (const name of ["base", "full", "more", "top", "copy"]) {
      const file = NodeFile.open(at(name), { readOnly: true });
      expect(checkQcow2(file), name).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
      file.close();
    }
    if (qemuImg === undefined) return;
    writeFileSync(at("pw"), passphrase);
    const image = `driver=qcow2,encrypt.key-secret=s,file.filename=${at("copy")}`;
    const convert = ["convert", "--object", `secret,id=s,file=${at("pw")}`, "--image-opts", image, at("out")];
    expect(qemu("qemu-img", ...convert)).toMatchObject({ status: 0 });
    expect(same(readFileSync(at("out")), guest.model)).toBe(true);
  });
});

it("an overlay that is encrypted goes into a base that is not, and the other way, only where that is said", async () => {
  await inDirectory(async (directory) => {
    const at = (name: string): string => join(directory, name);
    const passphrase = new TextEncoder().encode("open sesame");
    const opener: ImageOpener = (name, more) => openImage(name, { passphrase, ...more });
    const below = { backingFile: "base", backingFormat: "qcow2" };
    for (const [base, top, job] of [
      [{}, { encryption: { passphrase, iterationMs: 1 } }, "commit"],
      [{ encryption: { passphrase, iterationMs: 1 } }, {}, "stream"],
    ] as const) {
      make(at("base"), base);
      make(at("top"), { ...top, ...below });
      const disk = new ManagedDisk(opener(at("top"), { format: "qcow2" }), opener);
      fill(disk.image, new Random(1));
      const expected = contentOf(disk.image);
      expect(() => (job === "commit" ? disk.jobs.commit() : disk.jobs.stream())).toThrow("expected --plain");
      if (job === "commit") disk.jobs.commit(undefined, { plain: true });
      else disk.jobs.stream({ plain: true });
      expect(await ended(disk)).toMatchObject({ state: "done", error: undefined });
      expect(same(contentOf(disk.image), expected)).toBe(true);
      await disk.close();
    }
  });
});
