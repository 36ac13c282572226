import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { MemoryFile } from "../src/file/memory-file.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, qemu, qemuImg, Random, seedCount } from "./qemu.ts";

/** A file that remembers what was written since its last sync. */
class LoggingFile extends MemoryFile {
  stable: Uint8Array = new Uint8Array(0);
  pending: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  override write(offset: number, from: Uint8Array): void {
    // A disk may tear between sectors: each is a write of its own.
    for (let at = 0; at < from.length; at += 512) {
      this.pending.push({ offset: offset + at, bytes: from.slice(at, at + 512) });
    }
    super.write(offset, from);
  }

  override sync(): void {
    this.stable = this.content();
    this.pending = [];
  }

  /** What a power failure may leave: any of the pending sectors, in any order. */
  afterCrash(random: Random): Uint8Array {
    const file = new MemoryFile("crashed", this.stable.slice());
    const oneIn = 1 + random.below(4);
    for (const { offset, bytes } of this.pending) if (random.chance(oneIn)) file.write(offset, bytes);
    return file.content();
  }
}

it("a power failure costs nothing that was flushed", async () => {
  await inDirectory((directory) => {
    for (let seed = 1; seed <= seedCount(4); seed += 1) {
      const random = new Random(seed);
      const file = new LoggingFile();
      const clusterSize = random.pick([512, 1024, 4096]);
      createQcow2(file, { size: 256 * 1024, clusterSize });
      const image = Qcow2Image.open(file, { l2CacheBytes: 1, refcountCacheBytes: 1 });
      const current = new Uint8Array(512);
      const allowed = Array.from({ length: 512 }, () => new Set([0]));
      for (let step = 0; step < 80; step += 1) {
        const sector = random.below(500);
        const count = 1 + random.below(12);
        const kind = random.below(8);
        if (kind === 0) {
          image.flushNow();
          for (const [index, set] of allowed.entries()) {
            set.clear();
            set.add(current[index]!);
          }
        } else {
          const value = kind === 1 ? 0 : 1 + random.below(255);
          if (kind === 1) image.writeZeroesAt(sector * 512, count * 512, true);
          else image.writeAt(sector * 512, new Uint8Array(count * 512).fill(value));
          for (let index = sector; index < sector + count; index += 1) {
            current[index] = value;
            allowed[index]!.add(value);
          }
        }
        if (step % 3 !== 0) continue;
        const crashed = file.afterCrash(random);
        const after = Qcow2Image.open(new MemoryFile("crashed", crashed, true));
        const bytes = new Uint8Array(512);
        for (const [index, set] of allowed.entries()) {
          after.readAt(index * 512, bytes);
          expect(
            bytes.every((byte) => byte === bytes[0]),
            `seed ${seed} step ${step}: torn sector ${index}`,
          ).toBe(true);
          expect([...set], `seed ${seed} step ${step}: sector ${index}`).toContain(bytes[0]);
        }
        if (qemuImg === undefined || step % 15 !== 0) continue;
        writeFileSync(join(directory, "crashed"), crashed);
        const check = qemu("qemu-img", "check", "-f", "qcow2", join(directory, "crashed"));
        expect([0, 3], `seed ${seed} step ${step}: ${check.out}${check.err}`).toContain(check.status);
      }
    }
  });
});
