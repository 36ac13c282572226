import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import * as fc from "fast-check";
import { hasSystemCalls } from "@northbridge/linux";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FileSink } from "./file-sink.ts";
import { InputQueue } from "./input-queue.ts";
import { OutputBuffer } from "./output-buffer.ts";
import { RingBufferBackend } from "./ring-buffer.ts";
import { SocketBackend } from "./socket-backend.ts";
import { StdioBackend } from "./stdio.ts";
import { TextSearch, WatchedConsole } from "./watched-console.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const type = (sink: { write(byte: number): void }, text: string): void => {
  for (const byte of bytesOf(text)) sink.write(byte);
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-host-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("InputQueue", () => {
  it("delivers every byte once and in order, whatever fits when", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.array(fc.nat(5)), (pushes, rooms) => {
        const queue = new InputQueue();
        let got = "";
        let room = 0;
        queue.connect((bytes) => {
          const taken = Math.min(room, bytes.length);
          got += new TextDecoder("latin1").decode(bytes.subarray(0, taken));
          room -= taken;
          return taken;
        });
        for (const text of pushes) queue.push(bytesOf(text));
        for (const more of rooms) {
          room += more;
          queue.resume();
        }
        const all = new TextDecoder("latin1").decode(bytesOf(pushes.join("")));
        expect(got).toBe(all.slice(0, got.length));
        expect(got.length).toBe(
          Math.min(
            all.length,
            rooms.reduce((sum, more) => sum + more, 0),
          ),
        );
        expect(queue.length).toBe(all.length - got.length);
      }),
    );
  });

  it("may be resumed from inside the consumer", () => {
    const queue = new InputQueue();
    const got: number[] = [];
    queue.connect((bytes) => {
      got.push(bytes[0] ?? -1);
      queue.resume();
      return 1;
    });
    queue.push(Uint8Array.of(1, 2, 3));
    expect(got).toEqual([1, 2, 3]);
  });
});

describe("OutputBuffer", () => {
  it("hands over when the event loop comes round, and when full", async () => {
    const handed: number[] = [];
    const output = new OutputBuffer((bytes) => handed.push(bytes.length));
    for (let i = 0; i < 20_000; i++) output.write(i & 0xff);
    expect(handed).toEqual([16_384]);
    await new Promise((done) => setImmediate(done));
    expect(handed).toEqual([16_384, 3_616]);
    output.flush();
    expect(handed).toHaveLength(2);
  });
});

describe("RingBufferBackend", () => {
  it("keeps the last bytes", () => {
    const ring = new RingBufferBackend(4);
    type(ring, "ab");
    expect(ring.text()).toBe("ab");
    type(ring, "cdefg");
    expect(ring.text()).toBe("defg");
  });
});

describe("FileSink", () => {
  it("appends what is written, and says which file cannot be opened", async () => {
    const path = join(directory, "console.log");
    for (const text of ["one\n", "two\n"]) {
      const sink = new FileSink(path);
      type(sink, text);
      await sink.close();
      await sink.close();
    }
    expect(await readFile(path, "utf8")).toBe("one\ntwo\n");
    expect(() => new FileSink(directory)).toThrow(expect.objectContaining({ code: "NB_HOST" }));
  });

  it("outlives a disk that is full, says so once, and what is lost is counted", async () => {
    const said: string[] = [];
    const sink = new FileSink("/dev/full", (message) => said.push(message)); // full(4)
    for (const text of ["one", "two"]) {
      type(sink, text);
      sink.flush();
    }
    type(sink, "three");
    await sink.close();
    expect([said, sink.lostBytes]).toEqual([
      ["/dev/full: its disk is full: the guest's output is lost until that changes"],
      11,
    ]);
  });

  it("loses nothing of a FIFO whose reader keeps up, and what one that has gone does not read", async () => {
    const path = join(directory, "fifo");
    execFileSync("mkfifo", [path]);
    const reader = spawn("cat", [path], { stdio: ["ignore", "pipe", "ignore"] });
    const read = buffer(reader.stdout);
    let sink: FileSink | undefined;
    while (sink === undefined) {
      try {
        sink = new FileSink(path);
      } catch {
        await new Promise((done) => setImmediate(done)); // cat has not opened it yet
      }
    }
    for (let i = 0; i < 512 << 10; i++) sink.write(i & 0xff);
    await sink.close();
    const bytes = await read;
    expect([bytes.length, bytes.every((byte, i) => byte === (i & 0xff)), sink.lostBytes]).toEqual([
      512 << 10,
      true,
      0,
    ]);
  });

  it("does not wait for somebody to read a FIFO", () => {
    const path = join(directory, "fifo");
    execFileSync("mkfifo", [path]);
    expect(() => new FileSink(path)).toThrow(`${path}: cannot open for writing: nobody reads it`);
  });
});

describe("SocketBackend", () => {
  it("joins one client and the guest, and refuses a second", async () => {
    const path = join(directory, "console.sock");
    const backend = await SocketBackend.listen(path);
    let got = "";
    backend.connect((bytes) => {
      got += new TextDecoder().decode(bytes);
      return bytes.length;
    });
    type(backend, "nobody hears this");
    backend.flush();
    const presence: boolean[] = [];
    backend.watchPeer((isPresent) => presence.push(isPresent));
    const client = connect(path);
    client.write("hello");
    while (got !== "hello") await new Promise((done) => setImmediate(done));
    type(backend, "world");
    expect(String((await once(client, "data"))[0])).toBe("world");
    const second = connect(path);
    expect(String((await once(second, "data"))[0])).toContain("another client");
    client.end();
    second.end();
    while (presence.length < 3) await new Promise((done) => setImmediate(done));
    await backend.close();
    expect(presence).toEqual([false, true, false]);
    await expect(SocketBackend.listen(join(directory, "none", "x"))).rejects.toMatchObject({
      code: "NB_HOST",
    });
  });
});

describe("clients of a SocketBackend", () => {
  const later = (): Promise<void> => new Promise((done) => setImmediate(done));
  const clientOf = async (path: string): Promise<Socket> => {
    const client = connect({ path, allowHalfOpen: true });
    client.on("error", () => undefined);
    await once(client, "connect");
    return client;
  };

  it("do not keep it from closing, whether they read or not, whether they were refused or not", async () => {
    const path = join(directory, "console.sock");
    const backend = await SocketBackend.listen(path);
    const [first, second] = [await clientOf(path), await clientOf(path)];
    let isThere = false;
    backend.watchPeer((isPresent) => {
      isThere = isPresent;
    });
    while (!isThere) await later();
    for (let i = 0; i < 500_000; i++) backend.write(i & 0xff);
    await backend.close();
    first.destroy();
    second.destroy();
  });

  it("give way to the next one once they have left, though the guest takes none of their input", async () => {
    const path = join(directory, "console.sock");
    const backend = await SocketBackend.listen(path);
    let taken = 0;
    backend.connect(() => taken);
    const first = await clientOf(path);
    first.write(new Uint8Array(400_000));
    let peers = "";
    backend.watchPeer((isPresent) => {
      peers += isPresent ? "+" : "-";
    });
    while (!peers.endsWith("+")) await later();
    for (let i = 0; i < 20; i++) await later();
    first.destroy();
    await once(first, "close");
    const second = await clientOf(path);
    while (!peers.endsWith("-+")) await later();
    type(backend, "login: ");
    const [bytes] = (await once(second, "data")) as [Buffer];
    expect(bytes.toString()).toBe("login: ");
    taken = Infinity;
    second.destroy();
    await backend.close();
  });

  it.skipIf(!hasSystemCalls())(
    "share no socket that a process left which was killed, however many look at it at once (needs flock)",
    async () => {
      const path = join(directory, "console.sock");
      leaveSocket(path);
      const tries = await Promise.allSettled(Array.from({ length: 4 }, () => SocketBackend.listen(path)));
      const reasons = tries.flatMap((one) => (one.status === "rejected" ? [one.reason as Error] : []));
      expect(reasons.map(({ message }) => message)).toEqual(
        Array.from({ length: 3 }, () => `${path}: cannot listen: somebody listens there`),
      );
      const client = await clientOf(path);
      client.destroy();
      for (const one of tries) if (one.status === "fulfilled") await one.value.close();
    },
  );

  it.skipIf(!hasSystemCalls())(
    "find the socket of a process that was killed made anew, and one that is used refused (needs flock)",
    async () => {
      const path = join(directory, "console.sock");
      leaveSocket(path);
      const backend = await SocketBackend.listen(path);
      const client = await clientOf(path);
      await expect(SocketBackend.listen(path)).rejects.toThrow(
        `${path}: cannot listen: somebody listens there`,
      );
      client.destroy();
      await backend.close();
      await writeFile(path, "");
      await expect(SocketBackend.listen(path)).rejects.toThrow(
        `${path}: cannot listen: there is a file of that name`,
      );
    },
  );
});

function leaveSocket(path: string): void {
  const leave = `require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", leave, path]);
}

describe("a slow client of a SocketBackend", () => {
  it("gets all that is written while there is room", async () => {
    const backend = await SocketBackend.listen(join(directory, "port.sock"));
    let isThere = false;
    backend.watchPeer((isPresent) => {
      isThere = isPresent;
    });
    const client = connect(join(directory, "port.sock"));
    while (!isThere) await new Promise((done) => setImmediate(done));
    const total = 5 << 20;
    let sent = 0;
    let refusals = 0;
    const write = (hasRoom: boolean): void => {
      if (!hasRoom) refusals++;
      else while (sent < total && backendHasRoom()) backend.write(sent++ & 0xff);
    };
    let hasRoom = true;
    const backendHasRoom = (): boolean => hasRoom;
    backend.watchRoom((has) => {
      hasRoom = has;
      write(has);
    });
    expect(sent).toBeLessThan(2 << 20);
    let received = 0;
    let isWrong = false;
    client.on("data", (bytes: Buffer) => {
      for (const byte of bytes) isWrong ||= byte !== (received++ & 0xff);
    });
    while (received < total) {
      if (sent === total) backend.flush();
      await new Promise((done) => setImmediate(done));
    }
    expect([isWrong, refusals > 0]).toEqual([false, true]);
    client.end();
    await once(client, "close");
    await backend.close();
  });

  it("is waited for no longer once it is gone", async () => {
    const backend = await SocketBackend.listen(join(directory, "port.sock"));
    const client = connect(join(directory, "port.sock"));
    let isThere = false;
    backend.watchPeer((isPresent) => {
      isThere = isPresent;
    });
    while (!isThere) await new Promise((done) => setImmediate(done));
    const room: boolean[] = [];
    backend.watchRoom((hasRoom) => room.push(hasRoom));
    while (room.at(-1) === true) backend.write(0);
    client.destroy();
    while (room.at(-1) === false) await new Promise((done) => setImmediate(done));
    expect(room).toEqual([true, false, true]);
    await backend.close();
  });
});

describe("StdioBackend", () => {
  const streams = (): { stdin: PassThrough & { raw: boolean[] }; stdout: PassThrough; options: object } => {
    const raw: boolean[] = [];
    const stdin = Object.assign(new PassThrough(), {
      isTTY: true,
      raw,
      setRawMode: (mode: boolean) => void raw.push(mode),
    });
    const stdout = new PassThrough();
    return { stdin, stdout, options: { stdin, stdout } };
  };

  it("is raw only while open and filters what is typed", async () => {
    const { stdin, stdout, options } = streams();
    const backend = new StdioBackend({
      ...options,
      filter: (bytes) => bytes.filter((byte) => byte !== 0x78),
    });
    backend.open();
    backend.open();
    let got = "";
    backend.connect((bytes) => {
      got += new TextDecoder().decode(bytes);
      return bytes.length;
    });
    stdin.write("axb");
    while (got.length < 2) await new Promise((done) => setImmediate(done));
    expect(got).toBe("ab");
    type(backend, "out");
    backend.close();
    backend.close();
    expect(String(stdout.read())).toBe("out");
    expect(stdin.raw).toEqual([true, false]);
  });

  it("stops reading while the guest has no room", async () => {
    const { stdin, options } = streams();
    const backend = new StdioBackend(options);
    backend.open();
    let room = 0;
    let got = 0;
    backend.connect((bytes) => {
      const taken = Math.min(room, bytes.length);
      room -= taken;
      got += taken;
      return taken;
    });
    for (let i = 0; i < 10; i++) stdin.write(new Uint8Array(16_384));
    for (let i = 0; i < 20; i++) await new Promise((done) => setImmediate(done));
    expect(stdin.isPaused()).toBe(true);
    room = Infinity;
    backend.resume();
    while (got < 163_840) await new Promise((done) => setImmediate(done));
    expect(stdin.isPaused()).toBe(false);
    backend.close();
  });

  it("keeps a bounded part of the output that nobody reads, and says how much was lost", async () => {
    const { stdout, options } = streams();
    const lost: number[] = [];
    const backend = new StdioBackend({ ...options, onLoss: (bytes) => lost.push(bytes) });
    backend.open();
    const room: boolean[] = [];
    backend.watchRoom((hasRoom) => room.push(hasRoom));
    const total = 4 << 20;
    for (let i = 0; i < total; i++) backend.write(0x61);
    expect(stdout.writableLength + stdout.readableLength).toBeLessThan(2 << 20);
    let read = 0;
    stdout.on("data", (bytes: Buffer) => {
      read += bytes.length;
    });
    while (room.length < 3) await new Promise((done) => setImmediate(done));
    expect([room, read + (lost[0] ?? 0)]).toEqual([[true, false, true], total]);
    backend.close();
  });

  it("says at its end what nobody has read, also of what came after it", () => {
    const { options } = streams();
    const lost: number[] = [];
    const backend = new StdioBackend({ ...options, onLoss: (bytes) => lost.push(bytes) });
    backend.open();
    const fill = (): void => {
      for (let i = 0; i < 2 << 20; i++) backend.write(0x61);
    };
    fill();
    backend.close();
    expect(lost).toHaveLength(1);
    fill();
    backend.close();
    expect(lost).toHaveLength(2);
    expect(lost[1]).toBe(2 << 20);
  });

  it("leaves nothing of its own at the streams", () => {
    const { stdin, stdout, options } = streams();
    for (let i = 0; i < 20; i++) {
      const backend = new StdioBackend(options);
      backend.open();
      backend.close();
    }
    const left = [stdin, stdout].flatMap((stream) =>
      stream.eventNames().map((name) => stream.listenerCount(name)),
    );
    expect(Math.max(...left)).toBeLessThanOrEqual(2);
  });
});

describe("WatchedConsole", () => {
  it("tells once of each text, and passes everything on", () => {
    const ring = new RingBufferBackend();
    const console = new WatchedConsole(ring);
    const seen: string[] = [];
    console.watch("ready", () => seen.push(`ready after ${ring.text().length}`));
    console.watch("# ", () => seen.push("prompt"));
    type(console, "rereready ready # # ");
    expect(seen).toEqual(["ready after 9", "prompt"]);
    expect(ring.text()).toBe("rereready ready # # ");
  });

  it("finds what String.includes finds", () => {
    const small = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 30 });
    const pattern = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(small, pattern, (text, wanted) => {
        const search = new TextSearch(wanted);
        const at = [...bytesOf(text)].findIndex((byte) => search.see(byte));
        expect(at).toBe(text.includes(wanted) ? text.indexOf(wanted) + wanted.length - 1 : -1);
      }),
    );
  });
});
