import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import lz4 from "lz4-napi";
import lzma from "lzma-native";
import { describe, expect, it } from "vitest";
import { withSize } from "../../test/fake-kernel.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { unpackPayload } from "./payload.ts";

/** More than one 8 MiB block of LZ4, compressible and not. */
const original = Buffer.concat([Buffer.alloc(9 * 2 ** 20, "kernel text "), randomBytes(100_000)]);
const small = original.subarray(-200_000);

function lz4Legacy(bytes: Buffer): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from([0x02, 0x21, 0x4c, 0x18])];
  for (let offset = 0; offset < bytes.length; offset += 8 * 2 ** 20) {
    // The library puts the size of the original first; the frame wants that of the block.
    const block = lz4.compressSync(Buffer.from(bytes.subarray(offset, offset + 8 * 2 ** 20))).subarray(4);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(block.length);
    parts.push(length, block);
  }
  return Buffer.concat(parts);
}

const packers: readonly (readonly [
  name: string,
  pack: (bytes: Buffer) => Uint8Array | Promise<Uint8Array>,
])[] = [
  ["gzip", (bytes) => gzipSync(bytes)],
  ["zstd", (bytes) => withSize(zstdCompressSync(bytes), bytes.length)],
  ["LZ4", (bytes) => withSize(lz4Legacy(bytes), bytes.length)],
  [
    "xz",
    async (bytes) =>
      withSize(await new Promise<Buffer>((resolve) => lzma.compress(bytes, 1, resolve)), bytes.length),
  ],
];

const refusal = async (payload: Uint8Array): Promise<NorthbridgeError> => {
  const error: unknown = await unpackPayload("k", payload).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(NorthbridgeError);
  expect((error as NorthbridgeError).code).toBe("NB_BOOT_IMAGE");
  return error as NorthbridgeError;
};

describe("unpackPayload", () => {
  it.each(packers)("unpacks %s", async (_name, pack) => {
    const unpacked = await unpackPayload("k", await pack(original));
    expect(unpacked.length).toBe(original.length);
    expect(Buffer.compare(unpacked.slice(0, unpacked.length), original)).toBe(0);
  });

  it.each([
    ["lz4", ["-l", "-9"]],
    ["xz", ["--check=crc32", "--x86", "--lzma2=dict=1MiB"]],
    ["zstd", ["-19"]],
  ] as const)("unpacks what the program %s packs", async (program, args) => {
    let packed: Buffer;
    try {
      packed = execFileSync(program, [...args, "-c"], { input: small, stdio: ["pipe", "pipe", "ignore"] });
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code, `${program} is not installed: nothing to compare`).toBe(
        "ENOENT",
      );
      return;
    }
    const unpacked = await unpackPayload("k", withSize(packed, small.length));
    expect(Buffer.compare(unpacked.slice(0, unpacked.length), small)).toBe(0);
  });

  it.each(packers)("refuses %s that is cut off or says another size", async (name, pack) => {
    const payload = await pack(small);
    expect((await refusal(payload.subarray(0, payload.length / 2))).message).toMatch(
      /^k: expected .+, found .+/,
    );
    const lying = Uint8Array.from(payload);
    new DataView(lying.buffer).setUint32(lying.length - 4, small.length - 1, true);
    expect((await refusal(lying)).message).toContain(name === "LZ4" ? "" : name);
  });

  it("never fails but by NB_BOOT_IMAGE on damaged data", async () => {
    const payloads = await Promise.all(packers.map(async ([, pack]) => pack(small.subarray(0, 3000))));
    const damage = fc.record({
      format: fc.nat(payloads.length - 1),
      // Headers and trailers decide more than the middle.
      at: fc.oneof(fc.nat(40), fc.integer({ min: -24, max: -1 }), fc.nat(2000)),
      byte: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)),
      cut: fc.oneof(fc.constant(0), fc.nat(64)),
    });
    await fc.assert(
      fc.asyncProperty(damage, async ({ format, at, byte, cut }) => {
        const payload = Uint8Array.from(payloads[format]!);
        payload[at < 0 ? payload.length + at : at % payload.length] = byte;
        await unpackPayload("k", payload.subarray(0, payload.length - cut)).catch((error: unknown) => {
          expect(error).toMatchObject({ code: "NB_BOOT_IMAGE" });
        });
      }),
      { numRuns: 200 },
    );
  });

  it("names the formats that only a guest can unpack", async () => {
    const { message } = await refusal(Buffer.from("BZh9".padEnd(64, ".")));
    expect(message).toBe(
      "k: expected a payload in LZ4, zstd, gzip or xz, found bzip2: set boot.protocol to bzimage, and the guest unpacks it",
    );
  });

  it("refuses to allocate what a damaged trailer asks for", async () => {
    const { message } = await refusal(withSize(lz4Legacy(small), 0xffff_ffff));
    expect(message).toBe("k: expected a kernel of at most 1 GiB, found one that unpacks to 4294967295 bytes");
  });
});
