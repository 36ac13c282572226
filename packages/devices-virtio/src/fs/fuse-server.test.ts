import type { DirectoryBackend } from "@northbridge/sdk";
import { VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { VirtioFs } from "./virtio-fs.ts";

// linux/include/uapi/linux/fuse.h
const [READ, WRITE, BATCH_FORGET] = [15, 16, 42];
const IN_HEADER = 40;
const MIB = 1 << 20;

function setup() {
  const moved: number[] = [];
  let forgotten = 0;
  const length = (parts: readonly Uint8Array[]): number => parts.reduce((sum, part) => sum + part.length, 0);
  const move = (_handle: number, _offset: number, parts: readonly Uint8Array[]): number => {
    moved.push(length(parts));
    return length(parts);
  };
  const tree: Partial<DirectoryBackend> = {
    read: move,
    write: move,
    forget: () => {
      forgotten++;
    },
    forgetAll: () => undefined,
  };
  const bench = new VirtioBench(new VirtioFs({ tree: tree as DirectoryBackend, tag: "t" })).start();
  const data = bench.alloc(2 * MIB);
  /** Sends a request whose arguments say `size` at byte 16, with these parts of the same memory behind it. */
  const send = (opcode: number, words: readonly number[], out: number, into: number): void => {
    const header = new Uint8Array(IN_HEADER + 4 * words.length);
    const view = new DataView(header.buffer);
    view.setUint32(4, opcode, true);
    words.forEach((word, i) => {
      view.setUint32(IN_HEADER + 4 * i, word, true);
    });
    const parts = (count: number): { gpa: number; length: number }[] =>
      new Array<{ gpa: number; length: number }>(count).fill({ gpa: data, length: MIB });
    bench
      .queue(1)
      .add(
        [{ gpa: bench.allocBytes(header), length: header.length }, ...parts(out)],
        [{ gpa: bench.alloc(16), length: 16 }, ...parts(into)],
      );
    bench.kick(1);
    expect(bench.queue(1).collect()).toHaveLength(1);
  };
  return { moved, send, forgotten: () => forgotten };
}

describe("a file system's request", () => {
  it("moves no more than a driver may ask for, however much room it names", () => {
    const { moved, send } = setup();
    const args = [1, 0, 0, 0, 0xffff_ffff, 0, 0, 0, 0, 0];
    send(READ, args, 0, 5);
    send(WRITE, args, 5, 0);
    expect(moved).toEqual([MIB, MIB]);
    send(READ, [1, 0, 0, 0, 4096, 0, 0, 0, 0, 0], 0, 1);
    expect(moved.at(-1)).toBe(4096);
  });

  it("forgets so many nodes at a time", () => {
    const { send, forgotten } = setup();
    send(BATCH_FORGET, [0xffff_ffff, 0], 10, 0);
    expect(forgotten()).toBe(4096);
    send(BATCH_FORGET, [3, 0], 1, 0);
    expect(forgotten()).toBe(4099);
  });
});
