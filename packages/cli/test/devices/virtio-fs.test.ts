import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtioFs } from "@northbridge/devices-virtio";
import { HostDirectory } from "@northbridge/linux";
import { VirtioBench } from "@northbridge/sdk/testing";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

// linux/include/uapi/linux/fuse.h, from the header and not from our constants.
const [LOOKUP, GETATTR, READLINK, OPEN, READ, WRITE, RELEASE] = [1, 3, 5, 14, 15, 16, 18];
const [FSYNC, GETXATTR, INIT, OPENDIR, READDIR, CREATE, READDIRPLUS, FORGET] = [
  20, 22, 26, 27, 28, 35, 44, 2,
];
const [ENOENT, EINVAL, ENOSYS, EPROTO] = [2, 22, 38, 71];
const ROOT = 1;

const settle = async (): Promise<void> => {
  await new Promise((resolve) => setTimeout(resolve, 1));
};

/** Little-endian words, and text as bytes. */
const packed = (...parts: readonly (number | string)[]): Uint8Array =>
  Uint8Array.from(
    parts.flatMap((part) =>
      typeof part === "string"
        ? [...new TextEncoder().encode(part)]
        : [part & 0xff, (part >>> 8) & 0xff, (part >>> 16) & 0xff, part >>> 24],
    ),
  );

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "VirtioFs (needs Linux on x86-64)",
  () => {
    let path: string;
    let tree: HostDirectory;
    beforeEach(() => {
      path = mkdtempSync(join(tmpdir(), "northbridge-fs-"));
      tree = HostDirectory.open(path);
    });
    afterEach(async () => {
      await tree.closeTree();
      rmSync(path, { recursive: true });
    });

    const setup = () => {
      const bench = new VirtioBench(new VirtioFs({ tree, tag: "shared", requestQueues: 2 }), {
        queueSize: 64,
      }).start();
      let unique = 0;
      const offer = (opcode: number, node: number, args: Uint8Array, room: number, queue = 1) => {
        const header = bench.allocBytes(
          packed(40 + args.length, opcode, ++unique, 0, node, 0, 1000, 1000, 1, 0),
        );
        const data = bench.allocBytes(args);
        const reply = bench.allocBytes(new Uint8Array(16 + room + 16).fill(0xee)); // the last 16 are nobody's
        bench
          .queue(queue)
          .add(
            [{ gpa: header, length: 40 }, ...(args.length > 0 ? [{ gpa: data, length: args.length }] : [])],
            room < 0 ? [] : [{ gpa: reply, length: 16 + room }],
          );
        bench.kick(queue);
        return { unique, reply };
      };
      /** The answer behind its header, or the errno. */
      const ask = async (
        opcode: number,
        node: number,
        args: Uint8Array,
        room = 4096,
      ): Promise<DataView | number> => {
        const { unique, reply } = offer(opcode, node, args, room);
        let [used] = bench.queue(1).collect();
        for (; used === undefined; [used] = bench.queue(1).collect()) await settle();
        const view = new DataView(bench.bytes(reply, used.written).buffer);
        expect([view.getUint32(0, true), view.getUint32(8, true)]).toEqual([used.written, unique]);
        const error = view.getInt32(4, true);
        return error === 0 ? new DataView(view.buffer, 16) : -error;
      };
      const good = async (...args: Parameters<typeof ask>): Promise<DataView> => {
        const answer = await ask(...args);
        if (typeof answer === "number") throw new Error(`opcode ${args[0]}: errno ${answer}`);
        return answer;
      };
      return { bench, offer, ask, good };
    };
    const textOf = ({ buffer, byteOffset, byteLength }: DataView): string =>
      new TextDecoder().decode(new Uint8Array(buffer, byteOffset, byteLength));

    it("says its tag and how many request queues it has", () => {
      const { endpoint } = setup().bench;
      const config = Array.from({ length: 36 }, (_, at) => endpoint.readConfig(at, 1));
      expect(String.fromCharCode(...config).replace(/\0+$/, "")).toBe("shared");
      expect([endpoint.readConfig(36, 4), endpoint.queues.length]).toEqual([2, 3]);
    });

    it("agrees on a protocol, and refuses one too old", async () => {
      const { ask, good } = setup();
      const init = await good(INIT, 0, packed(7, 36, 0x20000, 0xffff_ffff));
      expect([init.byteLength, init.getUint32(0, true), init.getUint32(8, true)]).toEqual([64, 7, 0x20000]);
      expect(init.getUint32(20, true)).toBe(1 << 20); // max_write
      expect((await good(INIT, 0, packed(8, 0, 0, 0))).getUint32(0, true)).toBe(7);
      expect(await ask(INIT, 0, packed(7, 20, 0, 0))).toBe(EPROTO);
    });

    it("makes a file, writes it, syncs it, finds it again and reads it", async () => {
      const { ask, good } = setup();
      const made = await good(CREATE, ROOT, packed(2, 0o100640, 0, 0, "new\0"));
      const node = made.getUint32(0, true);
      const handle = made.getUint32(128, true);
      expect(made.getUint32(40 + 60, true)).toBe(0o100640);
      const data = "x".repeat(1000);
      const wrote = await good(WRITE, node, packed(handle, 0, 24, 0, data.length, 0, 0, 0, 0, 0, data));
      expect(wrote.getUint32(0, true)).toBe(1000);
      await good(FSYNC, node, packed(handle, 0, 1, 0));
      expect(readFileSync(join(path, "new"), "latin1")).toBe("\0".repeat(24) + data);
      const found = await good(LOOKUP, ROOT, packed("new\0"));
      expect([found.getUint32(0, true), found.getUint32(48, true)]).toEqual([node, 1024]);
      const read = await good(READ, node, packed(handle, 0, 1000, 0, 4096, 0, 0, 0, 0, 0));
      expect(textOf(read)).toBe("x".repeat(24));
      await good(RELEASE, node, packed(handle, 0, 0, 0, 0, 0));
      expect(await ask(LOOKUP, ROOT, packed("none\0"))).toBe(ENOENT);
      expect(await ask(GETXATTR, node, packed(10, 0, "user.a\0"))).toBe(ENOSYS);
      for (const name of ["..\0", ".\0", "\0", "a/b\0", "new", "../new\0"]) {
        expect(await ask(LOOKUP, ROOT, packed(name))).toBe(EINVAL);
      }
    });

    it.each([READDIR, READDIRPLUS])("lists directories in pieces (opcode %i)", async (opcode) => {
      const { good, ask } = setup();
      const names = Array.from({ length: 100 }, (_, i) => `entry-${i}`);
      for (const name of names) writeFileSync(join(path, name), name);
      symlinkSync("entry-0", join(path, "link"));
      const handle = (await good(OPENDIR, ROOT, packed(0, 0))).getUint32(0, true);
      const before = opcode === READDIRPLUS ? 128 : 0;
      const found = new Map<string, number>();
      let position = [0, 0];
      for (;;) {
        const [low = 0, high = 0] = position;
        const piece = await good(opcode, ROOT, packed(handle, 0, low, high, 1000, 0, 0, 0, 0, 0), 1000);
        if (piece.byteLength === 0) break;
        for (let at = 0; at < piece.byteLength; ) {
          const length = piece.getUint32(at + before + 16, true);
          const name = textOf(new DataView(piece.buffer, piece.byteOffset + at + before + 24, length));
          found.set(name, before === 0 ? 0 : piece.getUint32(at, true));
          position = [piece.getUint32(at + before + 8, true), piece.getUint32(at + before + 12, true)];
          at += before + Math.ceil((24 + length) / 8) * 8;
        }
      }
      expect([...found.keys()].sort()).toEqual([".", "..", "link", ...names].sort());
      if (before > 0) {
        expect([found.get("."), found.get("..")]).toEqual([0, 0]);
        expect(textOf(await good(READLINK, found.get("link") ?? 0, packed()))).toBe("entry-0");
        const { byteLength } = await good(GETATTR, found.get("entry-7") ?? 0, packed(0, 0, 0, 0));
        expect(byteLength).toBe(104);
      }
      expect(await ask(opcode, ROOT, packed(77, 0, 0, 0, 1000, 0, 0, 0, 0, 0))).toBe(9); // EBADF
    });

    it("does not answer what wants no answer", () => {
      const { bench, offer } = setup();
      offer(FORGET, 5, packed(1, 0), -1, 0);
      expect(bench.queue(0).collect()).toMatchObject([{ written: 0 }]);
    });

    it("goes on after a restore with the files that were open", async () => {
      writeFileSync(join(path, "f"), "content");
      const one = setup();
      const node = (await one.good(LOOKUP, ROOT, packed("f\0"))).getUint32(0, true);
      const handle = (await one.good(OPEN, node, packed(0, 0))).getUint32(0, true);
      await one.bench.endpoint.pause();
      const state = JSON.parse(JSON.stringify(one.bench.endpoint.save())) as ReturnType<
        typeof one.bench.endpoint.save
      >;
      await tree.closeTree();
      tree = HostDirectory.open(path);
      const twin = new VirtioBench(new VirtioFs({ tree, tag: "shared", requestQueues: 2 }), {
        memory: one.bench.memory,
      });
      twin.endpoint.restore(state);
      twin.endpoint.resume();
      const into = new Uint8Array(10);
      expect([tree.read(handle, 0, [into]), tree.lookup(ROOT, packed("f"))]).toEqual([7, node]);
    });

    it("forgets everything at a reset", async () => {
      const { bench, good } = setup();
      writeFileSync(join(path, "f"), "content");
      const node = (await good(LOOKUP, ROOT, packed("f\0"))).getUint32(0, true);
      bench.endpoint.setStatus(0);
      expect([bench.endpoint.status, tree.getAttributes(node)]).toEqual([0, -116]);
    });

    it("survives any request, and leaves the rest of the host alone", async () => {
      mkdirSync(join(path, "inside"));
      await tree.closeTree();
      tree = HostDirectory.open(join(path, "inside"));
      writeFileSync(join(path, "secret"), "secret");
      const word = fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom(0, 1, 2, 3, 8, 40, 0o100644, 0o40755, 0xffff_ffff) },
        { weight: 1, arbitrary: fc.nat() },
      );
      const name = fc.constantFrom(
        "a\0",
        "b\0",
        "..\0",
        "../secret\0",
        "/\0",
        "\0",
        "a",
        "a\0b\0",
        "l\0../secret\0",
      );
      const request = fc.record({
        opcode: fc.oneof(
          { weight: 9, arbitrary: fc.integer({ min: 1, max: 50 }) },
          { weight: 1, arbitrary: fc.nat() },
        ),
        node: fc.constantFrom(1, 2, 3, 4, 0, 999),
        words: fc.array(word, { maxLength: 12 }),
        names: fc.array(name, { maxLength: 2 }),
        room: fc.constantFrom(0, 1, 100, 4096),
        queue: fc.constantFrom(0, 1, 1, 1, 2),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(request, { minLength: 10, maxLength: 40 }), async (requests) => {
          const { bench, offer } = setup();
          for (const { opcode, node, words, names, room, queue } of requests) {
            const { reply } = offer(opcode, node, packed(...words, ...names), room, queue);
            for (let waits = 0; ; waits++) {
              const [used] = bench.queue(queue).collect();
              if (used !== undefined) {
                expect(used.written).toBeLessThanOrEqual(16 + room);
                break;
              }
              expect(waits).toBeLessThan(10_000);
              await settle();
            }
            expect(bench.bytes(reply + 16 + room, 16)).toEqual(new Uint8Array(16).fill(0xee));
          }
          expect(bench.endpoint.status & 0x40).toBe(0);
          expect(readFileSync(join(path, "secret"), "utf8")).toBe("secret");
        }),
        { numRuns: 60 },
      );
    });

    it("needs a reset after a request without a header", () => {
      const { bench } = setup();
      bench.queue(1).add([{ gpa: bench.alloc(8), length: 8 }], [{ gpa: bench.alloc(16), length: 16 }]);
      bench.kick(1);
      expect(bench.endpoint.status & 0x40).toBe(0x40);
    });
  },
);
