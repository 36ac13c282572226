import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

/** What a frame says of itself (IEEE 802.3, RFC 826). */
const HEADER = 14;
const ARP = 0x0806;

export const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(":", ""), "hex");

/** A frame with nothing in it but where it goes, in a VLAN where there is one (IEEE 802.1Q). */
export function emptyFrame(to: string, from: string, vlan?: number): Buffer {
  const tag = vlan === undefined ? [] : [0x81, 0x00, vlan >> 8, vlan & 0xff];
  // A type that nobody has (IEEE 802.3 annex 57A: for local experiments).
  const head = [macBytes(to), macBytes(from), Buffer.from([...tag, 0x88, 0xb5])];
  return Buffer.concat([...head, Buffer.alloc(46)]);
}

/** An ARP packet as `FramePeer` sees it. */
export interface ArpPacket {
  readonly to: string;
  readonly operation: number;
  readonly senderMac: string;
  readonly sender: string;
  readonly target: string;
}

/**
 * The other end of a network card's cable: a Unix socket that carries frames behind four bytes of length each, as QEMU's
 * `-netdev stream` and passt do.
 */
export class FramePeer implements AsyncDisposable {
  readonly #server: Server;
  readonly #mac: Buffer;
  readonly #packets: ArpPacket[] = [];
  #wake: (() => void) | undefined;
  #socket: Socket | undefined;
  #bytes: Buffer = Buffer.alloc(0);

  private constructor(mac: string) {
    this.#mac = macBytes(mac);
    this.#server = createServer((socket) => {
      this.#socket = socket;
      socket.on("error", () => undefined);
      socket.on("data", (bytes) => {
        this.#bytes = Buffer.concat([this.#bytes, bytes]);
        this.#take();
      });
    });
  }

  static async listen(path: string, mac: string): Promise<FramePeer> {
    const peer = new FramePeer(mac);
    peer.#server.listen(path);
    await once(peer.#server, "listening");
    return peer;
  }

  send(frame: Uint8Array): void {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(frame.length);
    this.#socket?.write(Buffer.concat([length, frame]));
  }

  /** Asks who has the address, of this MAC address alone, and waits for the answer. */
  async arping(address: string, to: string, own: string): Promise<ArpPacket> {
    const numbers = (ip: string): Buffer => Buffer.from(ip.split(".").map(Number));
    const kind = Buffer.from([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    const who = [this.#mac, numbers(own), Buffer.alloc(6), numbers(address)];
    this.send(Buffer.concat([macBytes(to), this.#mac, kind, ...who, Buffer.alloc(18)]));
    return this.next(({ operation, sender }) => operation === 2 && sender === address);
  }

  /** The next ARP packet of this kind; those before it are gone. */
  async next(isWanted: (packet: ArpPacket) => boolean): Promise<ArpPacket> {
    for (;;) {
      for (let packet = this.#packets.shift(); packet !== undefined; packet = this.#packets.shift())
        if (isWanted(packet)) return packet;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #take(): void {
    while (this.#bytes.length >= 4) {
      const end = 4 + this.#bytes.readUInt32BE(0);
      if (this.#bytes.length < end) return;
      const frame = this.#bytes.subarray(4, end);
      this.#bytes = this.#bytes.subarray(end);
      if (frame.readUInt16BE(12) !== ARP) continue;
      const ip = (at: number): string => frame.subarray(HEADER + at, HEADER + at + 4).join(".");
      this.#packets.push({
        to: frame.toString("hex", 0, 6),
        operation: frame.readUInt16BE(HEADER + 6),
        senderMac: frame.toString("hex", HEADER + 8, HEADER + 14),
        sender: ip(14),
        target: ip(24),
      });
      this.#wake?.();
    }
  }
}
