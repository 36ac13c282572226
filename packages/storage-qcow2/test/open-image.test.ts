import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { NodeFile } from "../src/file/node-file.ts";
import { createQcow2, type Qcow2CreateOptions } from "../src/qcow2/create.ts";
import { inDirectory } from "./qemu.ts";

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

it("a raw file that ends inside a sector can be discarded and zeroed to the sector's end", async () => {
  await inDirectory((directory) => {
    const path = join(directory, "a.raw");
    for (const mayUnmap of [true, false]) {
      writeFileSync(path, new Uint8Array(8192 + 700).fill(7));
      const image = openImage(path, { format: "raw" });
      expect(image.size).toBe(8192 + 1024);
      image.discardAt(image.size - 512, 512);
      image.discardAt(8192, 1024);
      image.writeZeroesAt(4096, image.size - 4096, mayUnmap);
      const found = new Uint8Array(image.size);
      image.readAt(0, found);
      expect(found.subarray(0, 4096).every((byte) => byte === 7)).toBe(true);
      expect(found.subarray(4096).every((byte) => byte === 0)).toBe(true);
      image.closeNow();
    }
  });
});
