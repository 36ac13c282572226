import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { queryObjects } from "node:v8";
import { describe, expect, it } from "vitest";
import { user } from "../src/index.ts";
import { TcpEndpoint } from "../src/tcp/endpoint.ts";
import { GuestCard, field, tcp } from "./guest-card.ts";
import { Flag, GuestTcp, until } from "./guest-tcp.ts";
import { scratch } from "./scratch.ts";
import { SteppedTime } from "./virtual-time.ts";

/** A server of the host at a Unix socket, whose kernel buffers are small; its clients wait until they are read. */
async function serve(
  path: string,
): Promise<AsyncDisposable & { readonly server: Server; readonly clients: Socket[] }> {
  const clients: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on("error", () => undefined);
    clients.push(socket);
  });
  server.listen(path);
  await once(server, "listening");
  return {
    server,
    clients,
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      await new Promise((closed) => server.close(closed));
    },
  };
}

/** Reads all that a client sends. */
async function all(client: Socket): Promise<{ length: number; error: unknown }> {
  let length = 0;
  let error: unknown;
  client.on("data", (chunk) => (length += chunk.length)).on("error", (one) => (error = one));
  client.resume();
  await until(() => client.readableEnded || client.destroyed);
  return { length, error };
}

/** Endpoints that something holds on to. */
const endpoints = (): number => queryObjects(TcpEndpoint, { format: "count" });

describe("connections of user() to Unix sockets", () => {
  it("end with the guest's RST, and with the guest's no", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "host");
    await using host = await serve(path);
    const listen = join(directory.path, "guest");
    const net = await user({
      hostPorts: [{ guestPort: 80, path }],
      forwards: [{ path: listen, guestPort: 22 }],
    });
    const card = new GuestCard(net);
    const connection = await GuestTcp.open(card, 4000, 80);
    connection.send(Flag.RST);
    expect(net.stats.tcpConnections).toBe(0);
    await until(() => host.clients.length === 1);
    expect(await all(host.clients[0]!)).toEqual({ length: 0, error: undefined });

    const asked = card.next((frame) => field.protocol(frame) === 6 && field.tcpFlags(frame) === Flag.SYN);
    const client = connect(listen);
    const syn = await asked;
    const acknowledgment = field.tcpSequence(syn) + 1;
    card.send(tcp(22, field.port(syn, 0), 0, Flag.RST | Flag.ACK, { acknowledgment }));
    await once(client.resume(), "close");
    expect(net.stats.tcpConnections).toBe(0);
    await net.close();
  });

  it("are turned away where there are too many", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "host");
    await using _host = await serve(path);
    const listen = join(directory.path, "guest");
    const net = await user({
      mostConnections: 1,
      hostPorts: [{ guestPort: 80, path }],
      forwards: [{ path: listen, guestPort: 22 }],
    });
    await GuestTcp.open(new GuestCard(net), 4000, 80);
    await once(connect(listen).resume(), "close");
    await net.close();
  });
});

describe("connections of user() that are over for the guest", () => {
  it.each(["a RST", "another on the same ports", "nothing"])(
    "reach a host that reads late, though after them comes %s",
    async (then) => {
      await using directory = await scratch();
      const path = join(directory.path, "host");
      await using host = await serve(path);
      const net = await user({ hostPorts: [{ guestPort: 80, path }] });
      const card = new GuestCard(net);
      const connection = await GuestTcp.open(card, 4000, 80);
      await until(() => host.clients.length === 1);
      host.clients[0]!.end();
      await until(() => (connection.flags & Flag.FIN) !== 0);
      connection.send(Flag.ACK);
      const sent = await connection.fill();
      connection.send(Flag.ACK | Flag.FIN);
      await until(() => connection.isHeard);
      if (then === "a RST") connection.send(Flag.RST | Flag.ACK);
      if (then === "another on the same ports") {
        const next = new GuestTcp(card, 4000, 80);
        next.sequence = connection.sequence + 100_000;
        next.knock();
        await until(() => next.last !== undefined);
      }
      expect(await all(host.clients[0]!)).toEqual({ length: sent, error: undefined });
      await net.close();
    },
  );

  it("count until the host has read them, and go with the back end, or in time", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "host");
    await using host = await serve(path);
    const scheduler = new SteppedTime();
    const net = await user({ scheduler, mostConnections: 2, hostPorts: [{ guestPort: 80, path }] });
    const card = new GuestCard(net);
    const finished = async (port: number): Promise<void> => {
      const connection = await GuestTcp.open(card, port, 80);
      await until(() => host.clients.length === port - 3999);
      host.clients.at(-1)!.end();
      await until(() => (connection.flags & Flag.FIN) !== 0);
      connection.send(Flag.ACK);
      await connection.fill();
      connection.send(Flag.ACK | Flag.FIN);
      await until(() => connection.isHeard);
      connection.send(Flag.RST | Flag.ACK);
    };
    await finished(4000);
    await finished(4001);
    expect(net.stats.tcpConnections).toBe(2);
    const refused = new GuestTcp(card, 4002, 80);
    refused.knock();
    await until(() => (refused.flags & Flag.RST) !== 0);
    scheduler.pass(599_000);
    expect(net.stats.tcpConnections).toBe(2);
    scheduler.pass(2000);
    expect(net.stats.tcpConnections).toBe(0);
    await finished(4002);
    await net.close();
    for (const client of host.clients) await all(client);
  });

  it("leave nothing behind, though the guest had no buffer for their last segment", async () => {
    await using directory = await scratch();
    const path = join(directory.path, "host");
    await using host = await serve(path);
    const net = await user({ hostPorts: [{ guestPort: 80, path }] });
    const card = new GuestCard(net);
    card.hasRoom = false;
    const before = endpoints();
    const ports = Array.from({ length: 100 }, (_, index) => 4000 + index);
    const segments = (flags: number, payload: readonly number[] = []): readonly Uint8Array[] =>
      ports.map((port) => tcp(port, 80, flags === Flag.SYN ? 1 : 2, flags, { acknowledgment: 5, payload }));
    card.send(...segments(Flag.SYN));
    await until(() => host.clients.length === ports.length);
    card.send(...segments(Flag.ACK, [1]));
    await new Promise(setImmediate);
    card.send(...segments(Flag.RST));
    await until(() => net.stats.tcpConnections === 0);
    for (const client of host.clients) await all(client);
    expect(endpoints() - before).toBeLessThan(10);
    await net.close();
  });
});

describe("DNS over TCP of user()", () => {
  it("loses a connection that sends no queries", async () => {
    const net = await user({ dns: { servers: [] } });
    const card = new GuestCard(net);
    const connection = await GuestTcp.open(card, 4000, 53, { to: "10.0.2.3" });
    connection.send(Flag.ACK, [0, 3, 1, 2, 3]);
    await until(() => (connection.flags & Flag.RST) !== 0);
    expect(net.stats.tcpConnections).toBe(0);
    await net.close();
  });
});
