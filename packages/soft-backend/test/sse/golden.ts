/**
 * Golden vectors: 16-bit digests of what an AMD EPYC (Zen 5) computed for the reproducible cases of `trials`.
 * Format, gzip-compressed: u32 seed, then per encoding map, prefix, opcode, group + 1, REX.W, memory (u8 each), count u16
 * and `count` digests u16, little-endian.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import type { Encoding } from "./case.ts";

const path = join(import.meta.dirname, "../golden/sse.bin.gz");

export interface GoldenEntry {
  readonly encoding: Encoding;
  readonly digests: Uint16Array;
}

export interface Golden {
  readonly seed: number;
  readonly entries: readonly GoldenEntry[];
}

export function readGolden(): Golden {
  const bytes = Uint8Array.from(gunzipSync(readFileSync(path)));
  const view = new DataView(bytes.buffer);
  const entries: GoldenEntry[] = [];
  for (let at = 4; at < bytes.length; ) {
    const [map, prefix, opcode, group, rexw, memory] = bytes.subarray(at, at + 6) as unknown as number[];
    const count = view.getUint16(at + 6, true);
    entries.push({
      encoding: {
        map: map!,
        prefix: prefix!,
        opcode: opcode!,
        group: group! - 1,
        rexw: rexw === 1,
        memory: memory === 1,
      },
      digests: new Uint16Array(bytes.slice(at + 8, at + 8 + 2 * count).buffer),
    });
    at += 8 + 2 * count;
  }
  return { seed: view.getUint32(0, true), entries };
}

export function writeGolden({ seed, entries }: Golden): void {
  const parts: Uint8Array[] = [new Uint8Array(Uint32Array.of(seed).buffer)];
  for (const { encoding: e, digests } of entries) {
    parts.push(Uint8Array.of(e.map, e.prefix, e.opcode, e.group + 1, Number(e.rexw), Number(e.memory)));
    parts.push(new Uint8Array(Uint16Array.of(digests.length).buffer));
    parts.push(new Uint8Array(digests.buffer, digests.byteOffset, digests.byteLength));
  }
  writeFileSync(path, gzipSync(Buffer.concat(parts), { level: 9 }));
}
