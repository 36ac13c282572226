import {
  type HostStream,
  type HostStreamListener,
  NorthbridgeError,
  type VsockBackend,
} from "@northbridge/sdk";
import {
  type ConfigPart,
  type DescriptorChain,
  type VirtioDevice,
  type VirtioSession,
  type VirtQueue,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { type Connection, OPERATION, Owed } from "./connection.ts";
import { Connections } from "./connections.ts";
import {
  BUFFER,
  CONFIG_LENGTH,
  EVENT_LENGTH,
  EVENT_TRANSPORT_RESET,
  Feature,
  FIRST_CID,
  Header,
  HOST_CID,
  LAST_CID,
  MAX_PAYLOAD,
  MAX_RESETS,
  Op,
  Queue,
  Shutdown,
  TYPE_STREAM,
} from "./spec.ts";

const QUEUE_SIZE = 128;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioVsockStateV1 {
  readonly version: 1;
  /** The driver had been started: it may have streams, whose sockets are not saved. */
  readonly wasStarted: boolean;
}

/**
 * Socket device (virtio 1.3 §5.10): streams between ports of the guest and the host's sockets. Holds no data: what one
 * side has no room for stays with the other. Streams do not outlive a restore; the driver is told so by a transport
 * reset. Not modelled: SEQPACKET.
 */
export class VirtioVsock implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.VSOCK;
  readonly features: readonly number[] = [Feature.STREAM];
  readonly queues: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(CONFIG_LENGTH);
  readonly identity: readonly ConfigPart[] = [{ name: "cid", offset: 0, length: CONFIG_LENGTH }];
  readonly #backend: VsockBackend;
  readonly #cid: number;
  readonly #connections = new Connections();
  /** Packets that no stream answers: pairs of guest port and host port to reset. */
  readonly #resets: number[] = [];
  readonly #counts = { packetsIn: 0, packetsOut: 0, bytesIn: 0, bytesOut: 0, refused: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;
  #owesTransportReset = false;
  #isPumping = false;
  /** Reasons to go round once more. */
  #pumps = 0;
  /** Packets of the guest's wait because too many answers do. */
  #isStalled = false;

  /** Throws `NB_CONFIG` where `cid` is none of a guest's. */
  constructor(deps: { readonly backend: VsockBackend; readonly cid: number }) {
    const { backend, cid } = deps;
    if (!Number.isInteger(cid) || cid < FIRST_CID || cid > LAST_CID) {
      throw new NorthbridgeError("NB_CONFIG", `cid: expected ${FIRST_CID} to ${LAST_CID}, found ${cid}`);
    }
    this.#backend = backend;
    this.#cid = cid;
    new DataView(this.config.buffer).setUint32(0, cid, true);
    backend.onConnect((port, stream) => this.#hostConnects(port, stream));
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    if (index === Queue.TRANSMIT) this.#transmit();
    else if (index === Queue.EVENT) this.#sendEvent();
    else {
      this.#pump();
      if (this.#isStalled) this.#transmit();
    }
  }

  reset(): void {
    this.#session = undefined;
    this.#owesTransportReset = false;
    this.#resets.length = 0;
    for (const connection of this.#connections) connection.stream?.close();
    this.#connections.clear();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#sendEvent();
    this.#transmit();
    this.#pump();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts, connections: this.#connections.size };
  }

  save(): VirtioVsockStateV1 {
    return { version: 1, wasStarted: this.#session !== undefined };
  }

  restore(state: unknown): void {
    const { version, wasStarted } = state as VirtioVsockStateV1;
    expectVersion("virtioVsock", version);
    this.#owesTransportReset = wasStarted;
  }

  /** Carries out the guest's packets, as long as their answers have room. */
  #transmit(): void {
    const queue = this.#session?.queue(Queue.TRANSMIT);
    if (queue === undefined || this.#isPaused) return;
    do {
      queue.disableNotifications();
      for (let chain = this.#nextPacket(queue); chain !== undefined; chain = this.#nextPacket(queue)) {
        this.#counts.packetsIn++;
        this.#packet(chain);
        queue.push(chain, 0);
      }
    } while (!queue.enableNotifications() && !this.#isStalled);
    queue.flush();
    this.#pump();
  }

  /** The guest's next packet, unless as many answers wait as there is room for. */
  #nextPacket(queue: VirtQueue): DescriptorChain | undefined {
    this.#isStalled = this.#resets.length >= 2 * MAX_RESETS;
    return this.#isStalled ? undefined : queue.pop();
  }

  #packet(chain: DescriptorChain): void {
    if (chain.readableBytes < Header.LENGTH) {
      this.#counts.refused++;
      return;
    }
    const guestPort = chain.readU32(Header.SRC_PORT);
    const hostPort = chain.readU32(Header.DST_PORT);
    const op = chain.readU16(Header.OP);
    const isOurs =
      chain.readU64(Header.SRC_CID) === this.#cid &&
      chain.readU64(Header.DST_CID) === HOST_CID &&
      chain.readU16(Header.TYPE) === TYPE_STREAM;
    const connection = isOurs ? this.#connections.get(guestPort, hostPort) : undefined;
    if (connection === undefined) {
      if (isOurs && op === Op.REQUEST) this.#guestConnects(guestPort, hostPort, chain);
      else if (op !== Op.RST) this.#refuse(guestPort, hostPort);
      return;
    }
    connection.peerCredit(chain.readU32(Header.BUF_ALLOC), chain.readU32(Header.FWD_CNT));
    switch (op) {
      case Op.RESPONSE:
        if (connection.isOpen || (connection.owed & Owed.REQUEST) !== 0) this.#abort(connection);
        else {
          connection.isOpen = true;
          connection.stream?.accepted(hostPort);
        }
        break;
      case Op.RW:
        this.#data(chain, connection);
        break;
      case Op.SHUTDOWN:
        this.#guestShutsDown(connection, chain.readU32(Header.FLAGS) & Shutdown.BOTH);
        break;
      case Op.CREDIT_UPDATE:
        break;
      case Op.CREDIT_REQUEST:
        connection.owed |= Owed.CREDIT_UPDATE;
        break;
      case Op.RST:
        this.#forget(connection);
        break;
      default:
        this.#abort(connection);
    }
  }

  #guestConnects(guestPort: number, hostPort: number, chain: DescriptorChain): void {
    const connection = this.#connections.add(guestPort, hostPort);
    if (connection === undefined) {
      this.#refuse(guestPort, hostPort);
      return;
    }
    connection.peerCredit(chain.readU32(Header.BUF_ALLOC), chain.readU32(Header.FWD_CNT));
    connection.stream = this.#backend.connect(hostPort, this.#listen(connection));
  }

  #hostConnects(port: number, stream: HostStream): HostStreamListener | undefined {
    if (this.#session === undefined || this.#owesTransportReset) return undefined;
    const connection = this.#connections.addFromHost(port);
    if (connection === undefined) return undefined;
    connection.stream = stream;
    connection.owed = Owed.REQUEST;
    this.#pump();
    return this.#listen(connection);
  }

  #listen(connection: Connection): HostStreamListener {
    const isLive = (): boolean => this.#connections.has(connection);
    return {
      connected: () => {
        if (!isLive()) return;
        connection.isOpen = true;
        connection.owed |= Owed.RESPONSE;
        this.#pump();
      },
      receive: (bytes) => (isLive() ? this.#receive(connection, bytes) : bytes.length),
      written: (count) => {
        connection.forwarded(count);
        if (connection.owed !== 0 && isLive()) this.#pump();
      },
      ended: () => {
        if (!isLive()) return;
        connection.hostShutdown |= Shutdown.SEND;
        connection.owed |= Owed.SHUTDOWN;
        this.#pump();
      },
      closed: () => {
        connection.stream = undefined;
        if (!isLive()) return;
        // A stream that both ends have ended in order is over; another one broke.
        if (connection.isOpen && connection.hostShutdown !== 0) {
          connection.hostShutdown = Shutdown.BOTH;
          connection.owed |= Owed.SHUTDOWN;
        } else {
          connection.owed = Owed.RST;
        }
        this.#pump();
      },
    };
  }

  #data(chain: DescriptorChain, connection: Connection): void {
    const length = chain.readU32(Header.LEN);
    const { stream, isOpen, guestShutdown } = connection;
    const isWhole = Header.LENGTH + length <= chain.readableBytes;
    if (!isOpen || !isWhole || (guestShutdown & Shutdown.SEND) !== 0 || !connection.received(length)) {
      this.#abort(connection);
      return;
    }
    this.#counts.bytesOut += length;
    if (stream === undefined)
      connection.forwarded(length); // nobody reads it any more
    else for (const view of chain.readable(Header.LENGTH, length)) stream.write(view);
  }

  #guestShutsDown(connection: Connection, flags: number): void {
    const { stream, guestShutdown } = connection;
    connection.guestShutdown |= flags;
    if ((flags & ~guestShutdown & Shutdown.SEND) !== 0) stream?.end();
    if (connection.guestShutdown === Shutdown.BOTH)
      this.#abort(connection); // so the guest knows that it is over
    else if ((flags & ~guestShutdown & Shutdown.RECEIVE) !== 0) stream?.resume(); // its input goes nowhere now
  }

  /** Ends a stream at once: what the guest has written still reaches the host. */
  #abort(connection: Connection): void {
    this.#forget(connection);
    this.#refuse(connection.guestPort, connection.hostPort);
  }

  #forget(connection: Connection): void {
    this.#connections.delete(connection);
    connection.stream?.close();
    connection.stream = undefined;
  }

  #refuse(guestPort: number, hostPort: number): void {
    this.#counts.refused++;
    this.#resets.push(guestPort, hostPort);
  }

  /** Sends what is owed and asks the streams for their input, as far as the guest has buffers. */
  #pump(): void {
    if (this.#isPumping) {
      this.#pumps++; // a stream had something to say when it was asked
      return;
    }
    this.#isPumping = true;
    let pumps: number;
    do {
      pumps = this.#pumps;
      const queue = this.#session?.queue(Queue.RECEIVE);
      if (queue === undefined || this.#isPaused || this.#owesTransportReset) break;
      this.#sendOwed(queue);
      for (const connection of this.#connections) connection.stream?.resume();
    } while (pumps !== this.#pumps);
    this.#isPumping = false;
  }

  #sendOwed(queue: VirtQueue): void {
    while (this.#resets.length > 0) {
      const chain = this.#buffer();
      if (chain === undefined) break;
      const [guestPort = 0, hostPort = 0] = this.#resets.splice(0, 2);
      queue.push(chain, this.#write(chain, guestPort, hostPort, Op.RST));
    }
    for (const connection of this.#connections) {
      while (connection.owed !== 0) {
        const chain = this.#buffer();
        if (chain === undefined) break;
        queue.push(chain, this.#settle(chain, connection));
      }
    }
    queue.flush();
  }

  /** Writes the first packet that a stream owes. */
  #settle(chain: DescriptorChain, connection: Connection): number {
    const what = connection.owed & -connection.owed;
    connection.owed &= ~what;
    const flags = what === Owed.SHUTDOWN ? connection.shutdownFlags : 0;
    const { guestPort, hostPort } = connection;
    const length = this.#write(chain, guestPort, hostPort, OPERATION[what] ?? Op.RST, connection, 0, flags);
    if (what === Owed.RST) this.#forget(connection);
    return length;
  }

  /** Puts input into the guest's buffers. Returns how much of it fitted. */
  #receive(connection: Connection, bytes: Uint8Array): number {
    if ((connection.guestShutdown & Shutdown.RECEIVE) !== 0) return bytes.length;
    const queue = this.#session?.queue(Queue.RECEIVE);
    if (queue === undefined || this.#isPaused || !connection.isOpen || connection.owed !== 0) return 0;
    let taken = 0;
    let asks = false;
    while (taken < bytes.length) {
      const { credit } = connection;
      if (credit === 0) {
        asks = connection.asksForCredit();
        break;
      }
      const chain = this.#buffer();
      if (chain === undefined) break;
      const room = chain.writableBytes - Header.LENGTH;
      const count = Math.min(credit, room, bytes.length - taken, MAX_PAYLOAD);
      const length = this.#write(chain, connection.guestPort, connection.hostPort, Op.RW, connection, count);
      chain.write(Header.LENGTH, bytes.subarray(taken, taken + count));
      queue.push(chain, length + count);
      connection.sent(count);
      taken += count;
    }
    queue.flush();
    this.#counts.bytesIn += taken;
    if (asks) this.#pump();
    return taken;
  }

  /** A buffer of the guest's that has room for a header and a byte. */
  #buffer(): DescriptorChain | undefined {
    const queue = this.#session?.queue(Queue.RECEIVE);
    while (queue !== undefined) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (queue.enableNotifications()) return undefined;
        continue;
      }
      if (chain.writableBytes > Header.LENGTH) return chain;
      queue.push(chain, 0);
    }
    return undefined;
  }

  #write(
    chain: DescriptorChain,
    guestPort: number,
    hostPort: number,
    op: number,
    connection?: Connection,
    length = 0,
    flags = 0,
  ): number {
    this.#counts.packetsOut++;
    const put = (offset: number, value: number): void => {
      chain.writeU32(offset, value);
    };
    put(Header.SRC_CID, HOST_CID);
    put(Header.SRC_CID + 4, 0);
    put(Header.DST_CID, this.#cid);
    put(Header.DST_CID + 4, 0);
    put(Header.SRC_PORT, hostPort);
    put(Header.DST_PORT, guestPort);
    put(Header.LEN, length);
    put(Header.TYPE, TYPE_STREAM | (op << 16));
    put(Header.FLAGS, flags);
    put(Header.BUF_ALLOC, connection === undefined ? 0 : BUFFER);
    put(Header.FWD_CNT, connection === undefined ? 0 : connection.tellForwarded());
    return Header.LENGTH;
  }

  /** Tells the driver that its streams are gone (§5.10.6.7). */
  #sendEvent(): void {
    const queue = this.#session?.queue(Queue.EVENT);
    if (queue === undefined || this.#isPaused || !this.#owesTransportReset) return;
    for (;;) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (queue.enableNotifications()) return;
        continue;
      }
      const isSent = chain.writableBytes >= EVENT_LENGTH && chain.writeU32(0, EVENT_TRANSPORT_RESET);
      queue.push(chain, isSent ? EVENT_LENGTH : 0);
      queue.flush();
      if (!isSent) continue;
      this.#owesTransportReset = false;
      this.#pump();
      return;
    }
  }
}
