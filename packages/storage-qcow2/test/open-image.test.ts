import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { MemoryFile } from "../src/file/memory-file.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { inDirectory, Random } from "./qemu.ts";

function make(path: string, options: Partial<Qcow2CreateOptions>): void {
  const file = NodeFile.open(path, { create: true });
  createQcow2(file, { size: 1 << 20, ...options });
  file.close();
}

const faultOf = (open: () => unknown): unknown => {
  try {
    open();
  } catch (error) {
    return (error as { fault?: string }).fault ?? error;
  }
  return undefined;
};

describe("what an image may open", () => {
  it("follows a backing file beside the image, and elsewhere only where allowed", async () => {
    await inDirectory((directory) => {
      const own = join(directory, "own");
      mkdirSync(own);
      writeFileSync(join(directory, "secret"), new Uint8Array(512).fill(7));
      writeFileSync(join(own, "base"), new Uint8Array(512).fill(5));
      symlinkSync(join(directory, "secret"), join(own, "link"));
      const top = join(own, "top.qcow2");
      const open = (allowed: string[] = []): (() => unknown) => {
        return () => {
          const image = openImage(top, { format: "qcow2", readOnly: true, allowedDirectories: allowed });
          const sector = new Uint8Array(512);
          image.readAt(0, sector);
          image.closeNow();
          expect([5, 7]).toContain(sector[0]);
        };
      };
      make(top, { backingFile: "base", backingFormat: "raw" });
      expect(faultOf(open())).toBe(undefined);
      for (const name of ["../secret", join(directory, "secret"), "link"]) {
        make(top, { backingFile: name, backingFormat: "raw" });
        expect(faultOf(open()), name).toBe("confined");
        expect(faultOf(open([directory])), name).toBe(undefined);
      }
      for (const name of ["nbd://localhost/x", "json:{}"]) {
        make(top, { backingFile: name, backingFormat: "raw" });
        expect(faultOf(open([directory])), name).toBe("confined");
      }
      writeFileSync(join(directory, "data"), "");
      make(top, { dataFile: join(directory, "data") });
      expect(faultOf(open())).toBe("confined");
    });
  });

  it("refuses a chain that comes back to itself", async () => {
    await inDirectory((directory) => {
      const path = join(directory, "a");
      make(path, { backingFile: "a", backingFormat: "qcow2" });
      expect(faultOf(() => openImage(path, { format: "qcow2", readOnly: true }))).toBe("invalid");
    });
  });
});

describe("a damaged image", () => {
  it("fails by name, whatever byte of its metadata is wrong", () => {
    for (let seed = 1; seed <= 400; seed += 1) {
      const random = new Random(seed);
      const file = new MemoryFile("hostile");
      createQcow2(file, { size: 1 << 18, clusterSize: 512 });
      const good = Qcow2Image.open(file);
      good.writeAt(random.below(256) * 512, random.bytes(2048));
      good.closeNow();
      const bytes = file.content();
      for (let flips = 0; flips < 4; flips += 1) {
        const at = random.chance(2) ? random.below(112) : random.below(bytes.length);
        bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
      }
      const attempt = (): void => {
        const image = Qcow2Image.open(new MemoryFile("hostile", bytes));
        const room = Math.min(image.size, 1 << 18);
        image.readAt(0, new Uint8Array(room));
        image.writeAt(0, new Uint8Array(Math.min(room, 8192)).fill(1));
        image.closeNow();
      };
      expect([undefined, "invalid", "unsupported", "corrupt", "request", "host"], `seed ${seed}`).toContain(
        faultOf(attempt),
      );
    }
  });
});
