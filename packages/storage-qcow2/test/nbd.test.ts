import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { BlockBackend } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { openImage } from "../src/chain/open-image.ts";
import { MemoryFile } from "../src/file/memory-file.ts";
import { exportImage } from "../src/nbd/nbd-export.ts";
import { NbdClient } from "../src/nbd/nbd-client.ts";
import { NbdServer, type NbdServerOptions } from "../src/nbd/nbd-server.ts";
import { createQcow2 } from "../src/qcow2/create.ts";
import { Qcow2Image } from "../src/qcow2/qcow2-image.ts";
import { clientBytes, talk } from "./nbd-wire.ts";
import { hasTool, inDirectory, qemu, qemuImg, Random, runTool } from "./qemu.ts";

const hasNbdTools = hasTool("nbdinfo") && hasTool("nbdcopy");
const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

/** An image in memory with data, zeroes, holes and a bitmap. */
function sample(): Qcow2Image {
  const file = new MemoryFile();
  createQcow2(file, { size: 4 << 20, clusterSize: 4096 });
  const image = Qcow2Image.open(file);
  const random = new Random(5);
  image.writeAt(65536, random.bytes(100_000).fill(7, 0, 512).subarray(0, 99_840));
  image.writeZeroesAt(1 << 20, 65536, true);
  image.bitmaps.add("b0", 65536);
  image.writeAt(2 << 20, new Uint8Array(70_144).fill(9));
  return image;
}

async function serving<T>(
  use: (socket: string, image: Qcow2Image, server: NbdServer, directory: string) => Promise<T>,
  options: Partial<NbdServerOptions> = {},
): Promise<T> {
  return inDirectory(async (directory) => {
    const image = sample();
    const socket = join(directory, "s");
    const exports = [exportImage(image, "", [image.bitmaps.get("b0")])];
    const server = await NbdServer.listen(socket, { exports, ...options });
    try {
      return await use(socket, image, server, directory);
    } finally {
      await server.close();
    }
  });
}

const contentOf = (image: Qcow2Image): Uint8Array => {
  const bytes = new Uint8Array(image.size);
  image.readAt(0, bytes);
  return bytes;
};

describe("the NBD server", () => {
  it.skipIf(!hasNbdTools)("tells nbdinfo what it offers", async () => {
    await serving(async (socket) => {
      const uri = `nbd+unix:///?socket=${socket}`;
      const info = await runTool("nbdinfo", "--json", uri);
      expect(info, info.err).toMatchObject({ status: 0 });
      expect(JSON.parse(info.out)).toMatchObject({
        protocol: "newstyle-fixed",
        structured: true,
        exports: [
          {
            "export-size": 4 << 20,
            contexts: ["base:allocation", "qemu:dirty-bitmap:b0"],
            can_multi_conn: true,
            can_trim: true,
            can_zero: true,
            can_fua: true,
            is_read_only: false,
          },
        ],
      });
      const map = await runTool("nbdinfo", "--json", "--map", uri);
      const extents = JSON.parse(map.out) as { offset: number; length: number; type: number }[];
      expect(extents.map(({ offset, length, type }) => [offset, length, type])).toEqual([
        [0, 65536, 3],
        [65536, 102400, 0],
        [167936, (2 << 20) - 167936, 3],
        [2 << 20, 73728, 0],
        [(2 << 20) + 73728, (2 << 20) - 73728, 3],
      ]);
      const dirty = await runTool("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b0", uri);
      const bits = JSON.parse(dirty.out) as { offset: number; length: number; type: number }[];
      expect(bits.filter(({ type }) => type === 1)).toMatchObject([{ offset: 2 << 20, length: 131072 }]);
      expect(await runTool("nbdinfo", "--list", uri)).toMatchObject({ status: 0 });
    });
  });

  it.skipIf(!hasNbdTools)("gives nbdcopy and qemu-img every byte, and takes every byte", async () => {
    await serving(async (socket, image, _server, directory) => {
      const uri = `nbd+unix:///?socket=${socket}`;
      const copy = join(directory, "copy");
      expect(await runTool("nbdcopy", uri, copy)).toMatchObject({ status: 0 });
      writeFileSync(join(directory, "expected"), contentOf(image));
      expect(await runTool("cmp", copy, join(directory, "expected"))).toMatchObject({ status: 0 });
      const changed = contentOf(image);
      changed.set(new Random(9).bytes(300_032), 500_000);
      changed.fill(0, 2 << 20, (2 << 20) + 8192);
      writeFileSync(copy, changed);
      expect(await runTool("nbdcopy", "--flush", copy, uri)).toMatchObject({ status: 0 });
      expect(Buffer.compare(contentOf(image), changed)).toBe(0);
      if (qemuImg === undefined) return;
      const compare = await runTool(
        "qemu-img",
        "compare",
        "-f",
        "raw",
        "-F",
        "raw",
        copy,
        `nbd+unix:///?socket=${socket}`,
      );
      expect(compare, compare.err).toMatchObject({ status: 0 });
      const io = [
        "write -P 3 1000 3001",
        "write -z 5000 9000",
        "discard 65536 65536",
        "flush",
        "read -P 3 1000 3001",
      ];
      const result = await runTool("qemu-io", "-f", "raw", ...io.flatMap((command) => ["-c", command]), uri);
      expect(result, result.out).toMatchObject({ status: 0 });
      changed.fill(3, 1000, 4001);
      changed.fill(0, 5000, 14000);
      changed.fill(0, 65536, 131072);
      expect(Buffer.compare(contentOf(image), changed)).toBe(0);
    });
  });

  it.skipIf(!hasNbdTools || !hasOpenssl)("serves over TLS, and only over TLS (needs openssl)", async () => {
    await inDirectory(async (directory) => {
      const tls = makeCertificates(directory);
      await serving(
        async (socket) => {
          const uri = `nbds+unix://localhost/?socket=${socket}&tls-certificates=${directory}`;
          const info = await runTool("nbdinfo", "--size", uri);
          expect(info, info.err).toMatchObject({ status: 0, out: `${4 << 20}\n` });
          expect((await runTool("nbdinfo", "--size", `nbd+unix:///?socket=${socket}`)).status).not.toBe(0);
          await expect(NbdClient.connect({ path: socket })).rejects.toThrow("wants TLS");
          const client = await NbdClient.connect({
            path: socket,
            tls: { ca: tls.ca, servername: "localhost" },
          });
          const bytes = new Uint8Array(512);
          await client.read(65536, [bytes]);
          expect(bytes.every((byte) => byte === 7)).toBe(true);
          await client.close();
        },
        { tls },
      );
    });
  });

  it("survives clients that talk nonsense", async () => {
    const image = sample();
    const before = contentOf(image);
    await inDirectory(async (directory) => {
      const socket = join(directory, "s");
      const server = await NbdServer.listen(socket, { exports: [exportImage(image, "")] });
      for (let seed = 1; seed <= 60; seed += 1) {
        const random = new Random(seed);
        const bytes = Buffer.concat([goodStart(random), random.bytes(1 + random.below(300))]);
        await talk(socket, bytes, true);
      }
      const client = await NbdClient.connect({ path: socket, readOnly: true });
      const now = new Uint8Array(image.size);
      await client.read(0, [now]);
      expect(Buffer.compare(now, before)).toBe(0);
      await client.close();
      await server.close();
    });
  });
});

/** A handshake that is right up to some point. */
function goodStart(random: Random): Buffer {
  const flags = Buffer.from([0, 0, 0, 3]);
  const option = (code: number, data: Buffer): Buffer => {
    const head = Buffer.alloc(16);
    head.write("IHAVEOPT");
    head.writeUInt32BE(code, 8);
    head.writeUInt32BE(data.length, 12);
    return Buffer.concat([head, data]);
  };
  const go = option(7, Buffer.alloc(6));
  const status = Buffer.alloc(28);
  status.writeUInt32BE(0x25609513);
  status.writeUInt16BE(random.pick([0, 7, 3, 5, 200]), 6);
  status.writeUInt32BE(random.pick([0, 512, 0xffffffff]), 24);
  status.writeUInt32BE(random.pick([0, 0xffffffff]), 16);
  return random.pick([
    Buffer.alloc(0),
    flags,
    Buffer.concat([flags, option(random.below(12), Buffer.from(random.bytes(random.below(40))))]),
    Buffer.concat([flags, option(8, Buffer.alloc(0)), go, status]),
  ]);
}

function makeCertificates(directory: string): {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
} {
  const openssl = (...args: readonly string[]): string => {
    const { status, stderr, stdout } = spawnSync("openssl", args, { cwd: directory, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return stdout;
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
  openssl("req", "-x509", ...key, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=authority");
  const name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  openssl(
    "req",
    "-x509",
    ...key,
    ...name,
    "-CA",
    "ca-cert.pem",
    "-CAkey",
    "ca-key.pem",
    "-keyout",
    "server-key.pem",
    "-out",
    "server-cert.pem",
  );
  const read = (file: string): string =>
    spawnSync("cat", [join(directory, file)], { encoding: "utf8" }).stdout;
  return { cert: read("server-cert.pem"), key: read("server-key.pem"), ca: read("ca-cert.pem") };
}

/** A qemu-nbd that serves a file until the scope ends. */
class QemuNbd implements AsyncDisposable {
  readonly socket: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;

  constructor(directory: string, ...args: readonly string[]) {
    this.socket = join(directory, "q");
    this.#child = spawn("qemu-nbd", ["-k", this.socket, "-t", "-e", "4", ...args], { stdio: "ignore" });
    this.#ended = new Promise((resolve) => this.#child.on("close", resolve));
  }

  async ready(): Promise<this> {
    while (!existsSync(this.socket)) await sleep(10);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }
}

it("the NBD server says where there is no directory for its socket", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "none", "s");
    await expect(NbdServer.listen(path, { exports: [] })).rejects.toThrow(
      `${path}: cannot listen: there is no directory ${join(directory, "none")}`,
    );
  });
});

it("the NBD server zeroes gigabytes in pieces, whatever the disk behind it can", async () => {
  const size = 4 * 2 ** 30;
  for (const blockSize of [512, 4096]) {
    const zeroed: [offset: number, length: number][] = [];
    const bytes: [offset: number, length: number][] = [];
    const disk = (canZero: boolean): BlockBackend => ({
      size,
      blockSize,
      readOnly: false,
      read: (_, into) => Promise.resolve(void into.map((part) => part.fill(1))),
      write: (offset, from) => {
        const [only] = from;
        if (only === undefined || from.length !== 1) throw new Error("expected one part");
        // What is around the zeroes keeps its ones.
        const first = only.indexOf(0);
        bytes.push([offset + first, only.lastIndexOf(0) + 1 - first]);
        return Promise.resolve();
      },
      ...(canZero ? { writeZeroes: (at, count) => Promise.resolve(void zeroed.push([at, count])) } : {}),
      flush: () => Promise.resolve(),
      close: () => Promise.resolve(),
    });
    for (const canZero of [true, false]) {
      await inDirectory(async (directory) => {
        const path = join(directory, "s");
        const exports = [{ name: "", disk: disk(canZero), contexts: new Map<string, never>() }];
        const server = await NbdServer.listen(path, { exports });
        await talk(path, clientBytes([{ command: "zero", offset: 1000, length: 3 * 2 ** 30 }]), false);
        await server.close();
      });
      const all = [...zeroed.splice(0), ...bytes.splice(0)].sort(([a], [b]) => a - b);
      expect(all[0]?.[0]).toBe(1000);
      const end = all.reduce((at, [offset, length]) => (offset === at ? at + length : NaN), 1000);
      expect(end).toBe(1000 + 3 * 2 ** 30);
      if (canZero) expect(all).toHaveLength(3);
      else expect(Math.max(...all.map(([, length]) => length))).toBe(1 << 20);
    }
  }
});

describe("the NBD client", () => {
  it.skipIf(qemuImg === undefined)("reads and writes a disk of qemu-nbd", async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, "disk.qcow2");
      qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
      const random = new Random(3);
      const model = new Uint8Array(8 << 20);
      {
        await using server = await new QemuNbd(directory, "-f", "qcow2", path).ready();
        const client = await NbdClient.connect({ path: server.socket });
        expect(client.size).toBe(8 << 20);
        const writes = Array.from({ length: 40 }, (_, index) => {
          const offset = index * 196_608 + 512 * random.below(100);
          const bytes = random.bytes(512 * (1 + random.below(200)));
          model.set(bytes, offset);
          const half = 512 * random.below(bytes.length / 512);
          return client.write(offset, [bytes.subarray(0, half), bytes.subarray(half)]);
        });
        await Promise.all(writes);
        await client.writeZeroes?.(1 << 20, 65536, true);
        model.fill(0, 1 << 20, (1 << 20) + 65536);
        await client.discard?.(2 << 20, 65536);
        await client.flush();
        const found = new Uint8Array(65536);
        await client.read(2 << 20, [found]);
        model.set(found, 2 << 20);
        const all = new Uint8Array(8 << 20);
        await client.read(0, [all.subarray(0, 1000), all.subarray(1000)]);
        expect(Buffer.compare(all, model)).toBe(0);
        const extents = await client.status(1 << 20, 65536);
        expect(extents[0]?.flags).toBe(3);
        await expect(client.read(client.size - 512, [new Uint8Array(1024)])).rejects.toThrow(
          "leave the disk",
        );
        await client.close();
        const reader = await NbdClient.connect({ path: server.socket, readOnly: true });
        await expect(reader.write(0, [new Uint8Array(512)])).rejects.toThrow("only be read");
        await reader.close();
        await expect(NbdClient.connect({ path: server.socket, exportName: "none" })).rejects.toThrow(
          "refuses the export",
        );
      }
      const image = openImage(path, { format: "qcow2", readOnly: true });
      const after = new Uint8Array(image.size);
      image.readAt(0, after);
      image.closeNow();
      expect(Buffer.compare(after, model)).toBe(0);
    });
  });

  it.skipIf(qemuImg === undefined)(
    "waits for a server that comes back, and sends again what had no answer",
    async () => {
      await inDirectory(async (directory) => {
        const path = join(directory, "disk.qcow2");
        qemu("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
        const random = new Random(4);
        const model = new Uint8Array(8 << 20);
        let client: NbdClient;
        const requests: Promise<void>[] = [];
        const write = (index: number): void => {
          const bytes = random.bytes(65536);
          model.set(bytes, index * 65536);
          requests.push(client.write(index * 65536, [bytes]));
        };
        {
          await using server = await new QemuNbd(directory, "-f", "qcow2", path).ready();
          client = await NbdClient.connect({ path: server.socket, reconnectMs: 600_000 });
          for (let index = 0; index < 60; index += 1) write(index);
          await requests[20];
        }
        for (let index = 60; index < 100; index += 1) write(index);
        {
          await using server = await new QemuNbd(directory, "-f", "qcow2", path).ready();
          await Promise.all(requests);
          expect(existsSync(server.socket)).toBe(true);
          const found = new Uint8Array(8 << 20);
          await client.read(0, [found]);
          expect(Buffer.compare(found, model)).toBe(0);
          await client.close();
        }
        {
          await using server = await new QemuNbd(directory, "-f", "qcow2", path).ready();
          client = await NbdClient.connect({ path: server.socket, reconnectMs: 600_000 });
        }
        const smaller = join(directory, "smaller.qcow2");
        qemu("qemu-img", "create", "-q", "-f", "qcow2", smaller, "4M");
        await using server = await new QemuNbd(directory, "-f", "qcow2", smaller).ready();
        expect(existsSync(server.socket)).toBe(true);
        await expect(client.read(0, [new Uint8Array(512)])).rejects.toThrow(
          "another disk came back, of 4194304 bytes",
        );
        await client.close();
      });
    },
  );

  it("fails what is under way when the server goes, and what comes after", async () => {
    await serving(async (path, _image, server) => {
      const client = await NbdClient.connect({ path });
      await server.close();
      await expect(client.read(0, [new Uint8Array(512)])).rejects.toMatchObject({ code: "NB_HOST" });
      await expect(client.flush()).rejects.toMatchObject({ code: "NB_HOST" });
    });
  });

  it("does not believe a server that talks nonsense", async () => {
    await inDirectory(async (directory) => {
      mkdirSync(join(directory, "s"));
      for (let seed = 1; seed <= 40; seed += 1) {
        const random = new Random(seed);
        const path = join(directory, "s", String(seed));
        const sockets = new Set<Socket>();
        const server = createServer((socket) => {
          sockets.add(socket);
          socket.on("error", () => undefined);
          socket.end(Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT\0\x03"), serverBytes(random)]));
        });
        await new Promise<void>((resolve) => {
          server.listen(path, resolve);
        });
        const attempt = async (): Promise<void> => {
          const client = await NbdClient.connect({ path });
          await client.read(0, [new Uint8Array(512)]);
        };
        await expect(attempt(), `seed ${seed}`).rejects.toMatchObject({
          code: expect.stringMatching(/^NB_/),
        });
        for (const socket of sockets) socket.destroy();
        await new Promise((resolve) => server.close(resolve));
      }
    });
  });
});

/** Replies to options that may be right, and then noise. */
function serverBytes(random: Random): Buffer {
  const reply = (option: number, type: number, data: Buffer): Buffer => {
    const head = Buffer.alloc(20);
    head.writeBigUInt64BE(0x3e889045565a9n);
    head.writeUInt32BE(option, 8);
    head.writeUInt32BE(type, 12);
    head.writeUInt32BE(random.chance(8) ? 0x7fffffff : data.length, 16);
    return Buffer.concat([head, data]);
  };
  const about = Buffer.alloc(12);
  about.writeBigUInt64BE(random.pick([0n, 4096n, 1n << 62n, 0xffffffffffffffffn]), 2);
  about.writeUInt16BE(random.below(512) | 1, 10);
  const replies = [
    reply(8, random.pick([1, 1, 0x80000001]), Buffer.alloc(0)),
    reply(10, 1, Buffer.alloc(0)),
    reply(7, 3, about),
    reply(7, 1, Buffer.alloc(0)),
  ];
  return Buffer.concat([...replies.slice(0, 1 + random.below(4)), Buffer.from(random.bytes(200))]);
}
