import type { NetBackend, NetOffloads } from "@northbridge/sdk";
import { VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";
import { VirtioNet, type VirtioNetOptions } from "@northbridge/devices-virtio";

/** A link that keeps what is sent and is full when the test says so. */
export class Wire implements NetBackend {
  readonly mtu: number = 1500;
  readonly sent: Uint8Array[] = [];
  /** By frame sent: the header that came with it. */
  readonly headers: (Uint8Array | undefined)[] = [];
  readonly offloads?: NetOffloads;
  taken: NetOffloads | undefined;
  /** How often the device has asked for frames. */
  resumes = 0;
  /** Frames it has room for. */
  room: number = Infinity;
  receive: (frame: Uint8Array, header?: Uint8Array) => boolean = () => false;
  writable: () => void = () => undefined;
  /** The cable goes in or out. */
  plug: (isUp: boolean) => void = () => undefined;

  constructor(offloads?: NetOffloads) {
    if (offloads !== undefined) this.offloads = offloads;
  }

  setOffloads(taken: NetOffloads): void {
    this.taken = taken;
  }

  send(frame: readonly Uint8Array[], header?: Uint8Array): boolean {
    if (this.room === 0) return false;
    this.room--;
    this.sent.push(Uint8Array.from(frame.flatMap((part) => [...part])));
    this.headers.push(header?.slice());
    return true;
  }

  connect(receive: (frame: Uint8Array, header?: Uint8Array) => boolean, onWritable: () => void): void {
    this.receive = receive;
    this.writable = onWritable;
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.plug = listener;
  }

  /** Tests offer frames themselves. */
  resume(): void {
    this.resumes++;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

export const MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0, 1, 2, 3);

export interface NetDriverOptions extends Omit<Partial<VirtioNetOptions>, "backend">, VirtioBenchOptions {
  /** What the link takes on. @defaultValue nothing */
  readonly link?: NetOffloads;
}

/** What a driver left undone of a frame. */
export interface Undone {
  readonly flags?: number;
  readonly gso?: number;
  readonly gsoSize?: number;
  readonly start?: number;
  readonly offset?: number;
}

export const virtioNetHeader = (undone: Undone = {}): Uint8Array => {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, undone.flags ?? 0);
  view.setUint8(1, undone.gso ?? 0);
  view.setUint16(4, undone.gsoSize ?? 0, true);
  view.setUint16(6, undone.start ?? 0, true);
  view.setUint16(8, undone.offset ?? 0, true);
  return bytes;
};

/** A started network device, its link, and what a driver does with its queues. */
export class NetDriver {
  readonly wire: Wire;
  readonly device: VirtioNet;
  readonly bench: VirtioBench;
  readonly #buffers = new Map<string, number>();

  constructor(options: NetDriverOptions = {}) {
    const { link, ...rest } = options;
    this.wire = new Wire(link);
    this.device = new VirtioNet({ backend: this.wire, mac: MAC, ...rest });
    this.bench = new VirtioBench(this.device, rest).start();
  }

  /** Sends a frame, in one buffer, on a queue pair. */
  send(frame: Uint8Array, undone: Undone = {}, pair = 0): void {
    const bytes = Uint8Array.from([...virtioNetHeader(undone), ...frame]);
    const { bench } = this;
    bench.queue(2 * pair + 1).add([{ gpa: bench.allocBytes(bytes), length: bytes.length }], []);
    bench.kick(2 * pair + 1);
  }

  /** Offers receive buffers. */
  offer(pair: number, ...lengths: readonly number[]): void {
    for (const length of lengths) {
      const gpa = this.bench.alloc(length);
      const id = this.bench.queue(2 * pair).add([], [{ gpa, length }]);
      this.#buffers.set(`${pair} ${id}`, gpa);
    }
    this.bench.kick(2 * pair);
  }

  /** Buffers that the device has filled. */
  received(pair = 0): Uint8Array[] {
    return this.bench
      .queue(2 * pair)
      .collect()
      .map(({ id, written }) => this.bench.bytes(this.#buffers.get(`${pair} ${id}`) ?? 0, written));
  }

  /** Gives a command and returns the device's answer. */
  control(queue: number, bytes: readonly number[]): number {
    const { bench } = this;
    const ack = bench.allocBytes(Uint8Array.of(0xff));
    const gpa = bench.allocBytes(Uint8Array.from(bytes));
    bench.queue(queue).add([{ gpa, length: bytes.length }], [{ gpa: ack, length: 1 }]);
    bench.kick(queue);
    bench.queue(queue).collect();
    return bench.bytes(ack, 1)[0] ?? 0xff;
  }
}
