import { once } from "node:events";
import { access, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HostStream, HostStreamListener } from "../contracts/index.ts";
import { UnixVsock } from "./unix-vsock.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-vsock-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** Keeps what a stream says, in order. */
class Listener implements HostStreamListener {
  readonly events: string[] = [];
  text = "";
  room = Infinity;

  connected(): void {
    this.events.push("connected");
  }

  receive(bytes: Uint8Array): number {
    const taken = bytes.subarray(0, this.room);
    this.room -= taken.length;
    this.text += String(Buffer.from(taken));
    return taken.length;
  }

  written(count: number): void {
    this.events.push(`written ${count}`);
  }

  ended(): void {
    this.events.push("ended");
  }

  closed(): void {
    this.events.push("closed");
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise((done) => setImmediate(done));
  }

  has(event: string): Promise<void> {
    return this.until(() => this.events.includes(event));
  }
}

const text = (of: string): Uint8Array => new TextEncoder().encode(of);

async function readAll(socket: Socket): Promise<string> {
  let all = "";
  for await (const bytes of socket) all += String(bytes);
  return all;
}

describe("UnixVsock", () => {
  it("keeps few streams whose guest has gone and whose host does not read", async () => {
    const path = join(directory, "slow");
    const backend = await UnixVsock.listen(path);
    const ends: Socket[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      ends.push(socket.pause());
      socket.on("error", () => undefined);
    }).listen(`${path}_7`);
    await once(server, "listening");
    const others = process.getActiveResourcesInfo().filter((of) => of === "PipeWrap").length;
    const bytes = new Uint8Array(1 << 20);
    for (let i = 0; i < 80; i++) {
      const listener = new Listener();
      const stream = backend.connect(7, listener);
      await listener.has("connected");
      stream.write(bytes);
      stream.close();
    }
    await new Listener().until(() => ends.length === 80);
    // Both ends of each are in this process.
    const sockets = (): number => process.getActiveResourcesInfo().filter((of) => of === "PipeWrap").length;
    await new Listener().until(() => sockets() <= others + 80 + 64);
    expect(sockets()).toBeGreaterThan(others + 64);
    await backend.close();
    for (const end of ends) end.destroy();
    server.close();
  });

  it("takes a guest to the socket of the port, and each half ends apart", async () => {
    const path = join(directory, "out");
    const backend = await UnixVsock.listen(path);
    const server = createServer({ allowHalfOpen: true }).listen(`${path}_52`);
    await once(server, "listening");
    const listener = new Listener();
    const stream = backend.connect(52, listener);
    const [socket] = (await once(server, "connection")) as [Socket];
    await listener.has("connected");
    const buffer = text("hello");
    stream.write(buffer);
    buffer.fill(0); // it is ours again
    stream.end();
    expect(await readAll(socket)).toBe("hello");
    socket.end("still here");
    await listener.has("ended");
    await listener.has("closed");
    expect(listener.text).toBe("still here");
    expect(listener.events).toContain("written 5");
    server.close();
    await backend.close();
  });

  it("keeps what the guest has not taken where both halves have ended", async () => {
    const path = join(directory, "late");
    const backend = await UnixVsock.listen(path);
    const server = createServer({ allowHalfOpen: true }).listen(`${path}_52`);
    await once(server, "listening");
    const listener = new Listener();
    listener.room = 3;
    const stream = backend.connect(52, listener);
    const [socket] = (await once(server, "connection")) as [Socket];
    await listener.has("connected");
    stream.end();
    socket.resume().end("still here");
    await once(socket, "close");
    for (let turn = 0; turn < 20; turn++) await new Promise((done) => setImmediate(done));
    expect([listener.text, listener.events]).toEqual(["sti", ["connected"]]);
    listener.room = Infinity;
    stream.resume();
    expect([listener.text, listener.events]).toEqual(["still here", ["connected", "ended", "closed"]]);
    server.close();
    await backend.close();
  });

  it("says that there is no socket", async () => {
    const backend = await UnixVsock.listen(join(directory, "none"));
    const listener = new Listener();
    backend.connect(1, listener);
    await listener.has("closed");
    expect(listener.events).toEqual(["closed"]);
    await backend.close();
  });

  it("takes a client to the port it asks for, with what it sends at once", async () => {
    const path = join(directory, "in");
    const backend = await UnixVsock.listen(path);
    const listener = new Listener();
    listener.room = 0; // until the guest has accepted
    let asked: { readonly port: number; readonly stream: HostStream } | undefined;
    backend.onConnect((port, stream) => {
      asked = { port, stream };
      return listener;
    });
    const client = connect({ path, allowHalfOpen: true });
    client.end("CONNECT 80\nGET /");
    await listener.until(() => asked !== undefined);
    expect([asked?.port, listener.text]).toEqual([80, ""]);
    asked?.stream.accepted(1025);
    listener.room = Infinity;
    asked?.stream.resume();
    await listener.has("ended");
    expect(listener.text).toBe("GET /");
    asked?.stream.write(text("answer"));
    asked?.stream.close();
    expect(await readAll(client)).toBe("OK 1025\nanswer");
    expect(listener.events).toEqual(["ended"]); // nothing is heard of a closed stream
    await backend.close();
    await expect(access(path)).rejects.toThrow();
  });

  it.each(["GET / HTTP/1.1\n", "CONNECT\n", "CONNECT 4294967296\n", `CONNECT ${"0".repeat(40)}`])(
    "hangs up on a client that says %j",
    async (line) => {
      const path = join(directory, "bad");
      const backend = await UnixVsock.listen(path);
      backend.onConnect(() => {
        throw new Error("nobody asked for a port");
      });
      const client = connect(path);
      client.write(line);
      expect(await readAll(client)).toBe("");
      await backend.close();
    },
  );

  it("hangs up where the guest has no such port", async () => {
    const path = join(directory, "refused");
    const backend = await UnixVsock.listen(path);
    const client = connect(path);
    client.write("CONNECT 1\n");
    expect(await readAll(client)).toBe("");
    await backend.close();
  });

  it("says which path it cannot listen at", async () => {
    await expect(UnixVsock.listen(join(directory, "none", "x"))).rejects.toMatchObject({
      code: "NB_HOST",
      message: expect.stringContaining(join(directory, "none", "x")),
    });
  });
});
