import { createSocket } from "node:dgram";
import { createConnection } from "node:net";
import { contains } from "../wire/address.ts";
import { get16, put16 } from "../wire/bytes.ts";
import { contains6, type Ip } from "../wire/ip.ts";
import { Dns } from "../wire/spec.ts";
import {
  answeredAddresses,
  answerWith,
  answersQuestion,
  failWith,
  parseQuestion,
  type Question,
} from "./dns-message.ts";
import type { NameServer, UserNetwork } from "./options.ts";
import { isClosedAddress } from "./policy.ts";

const MOST_QUERIES = 128;
const PATIENCE_MS = 2500;

/** How a query travels on: as it came, so that an answer too long for a datagram is asked for again. */
export type DnsTransport = "udp" | "tcp";

/**
 * Answers names from the table and asks name servers for the rest, each query from a port of its own. A name from
 * outside that resolves to this host, to a link-local address or into the guest's own network is refused: that is how
 * DNS rebinding gets in.
 */
export class DnsForwarder {
  readonly #network: UserNetwork;
  readonly #open = new Set<() => void>();
  #servers: readonly NameServer[];
  /** No server has answered since somebody was told so. */
  #areDown = false;

  constructor(network: UserNetwork) {
    this.#network = network;
    this.#servers = network.nameServers();
  }

  /** Answers one query of at most 64 KiB by `reply`, once, now or later. False: it is no query, and gets no answer. */
  query(message: Uint8Array, transport: DnsTransport, reply: (answer: Uint8Array) => void): boolean {
    const question = parseQuestion(message);
    if (question === undefined) return false;
    const addresses = this.#network.records.get(question.name);
    if (addresses !== undefined) {
      reply(answerWith(message, question, addresses));
      return true;
    }
    if (this.#open.size >= MOST_QUERIES) {
      reply(failWith(message, question, Dns.REFUSED));
      return true;
    }
    this.#ask(message.slice(), question, transport, this.#servers, reply);
    return true;
  }

  close(): void {
    for (const stop of this.#open) stop();
  }

  #ask(
    message: Uint8Array,
    question: Question,
    transport: DnsTransport,
    [server, ...others]: readonly NameServer[],
    reply: (answer: Uint8Array) => void,
  ): void {
    if (server === undefined) {
      this.#sayDown();
      // The next query finds those that this host has by then.
      this.#servers = this.#network.nameServers();
      reply(failWith(message, question, Dns.SERVER_FAILURE));
      return;
    }
    let isOver = false;
    const stop = (): void => {
      if (isOver) return;
      isOver = true;
      timer.cancel();
      this.#open.delete(stop);
      hangUp();
    };
    const next = (): void => {
      if (isOver) return;
      stop();
      this.#ask(message, question, transport, others, reply);
    };
    const timer = this.#network.scheduler.after(PATIENCE_MS, next);
    this.#open.add(stop);
    const hangUp = (transport === "udp" ? askByUdp : askByTcp)(server, message, next, (answer) => {
      if (isOver || !answersQuestion(answer, message, question)) return;
      stop();
      this.#areDown = false;
      reply(this.#isRebinding(answer) ? failWith(message, question, Dns.REFUSED) : answer);
    });
  }

  #sayDown(): void {
    if (this.#areDown) return;
    this.#areDown = true;
    const servers = this.#servers.map(({ address, port }) =>
      address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`,
    );
    const what =
      servers.length === 0 ? "this host names no resolver" : `no answer from ${servers.join(", ")}`;
    this.#network.warn(`dns.servers: ${what}: state others there, or addresses of names in dns.records`);
  }

  #isRebinding(answer: Uint8Array): boolean {
    return answeredAddresses(answer).some(
      (address) => isClosedAddress(address) || this.#isGuestNetwork(address),
    );
  }

  #isGuestNetwork(address: Ip): boolean {
    if (typeof address === "number") return contains(this.#network.subnet, address);
    return this.#network.v6 !== undefined && contains6(this.#network.v6.prefix, address);
  }
}

function askByUdp(
  server: NameServer,
  message: Uint8Array,
  onFailure: () => void,
  onAnswer: (answer: Uint8Array) => void,
): () => void {
  const socket = createSocket(server.address.includes(":") ? "udp6" : "udp4");
  socket.on("error", onFailure);
  socket.on("message", (answer, from) => {
    if (from.address === server.address && from.port === server.port) onAnswer(answer);
  });
  socket.send(message, server.port, server.address);
  return () => socket.close();
}

/** One query over a connection of its own, with its length before it (RFC 1035 §4.2.2). */
function askByTcp(
  server: NameServer,
  message: Uint8Array,
  onFailure: () => void,
  onAnswer: (answer: Uint8Array) => void,
): () => void {
  const socket = createConnection({ host: server.address, port: server.port });
  const framer = new DnsFramer();
  socket.on("error", onFailure);
  socket.on("end", onFailure);
  socket.on("data", (chunk) => {
    framer.push(chunk);
    for (let answer = framer.next(); answer !== undefined; answer = framer.next()) onAnswer(answer);
  });
  // The end comes after the answer: there are servers that drop whoever ends before.
  socket.write(withLength(message));
  return () => socket.destroy();
}

/** A message as a stream carries it. */
export function withLength(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(2 + message.length);
  put16(framed, 0, message.length);
  framed.set(message, 2);
  return framed;
}

/** Cuts a stream into messages (RFC 1035 §4.2.2); holds 64 KiB and a chunk at most where all of each is taken. */
export class DnsFramer {
  #held: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** Takes a copy of `chunk`. */
  push(chunk: Uint8Array): void {
    const left = this.#held.subarray(this.#at);
    const bytes = new Uint8Array(left.length + chunk.length);
    bytes.set(left);
    bytes.set(chunk, left.length);
    this.#held = bytes;
    this.#at = 0;
  }

  /** The next whole message, or `undefined` until more is pushed. */
  next(): Uint8Array | undefined {
    const from = this.#at + 2;
    if (from > this.#held.length || from + get16(this.#held, this.#at) > this.#held.length) return undefined;
    this.#at = from + get16(this.#held, from - 2);
    return this.#held.subarray(from, this.#at);
  }
}
