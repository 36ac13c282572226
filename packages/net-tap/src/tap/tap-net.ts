import {
  adoptTapQueue,
  attachToBridge,
  close,
  enterNetworkNamespace,
  FdWatch,
  GatheredWrite,
  interfaceMtu,
  openTapQueue,
  read,
  RootedBuffer,
  setInterfaceMtu,
  setInterfaceUp,
  setNonBlocking,
  setTapHeader,
  setTapOffload,
  setTapPersistent,
  type TapQueue,
  TunFlag,
  TunOffload,
} from "@northbridge/linux";
import type { NetBackend, NetOffloads } from "@northbridge/sdk";
import { gather, lengthOf } from "../link/frame.ts";
import { checkTapOptions, type TapOptions } from "./tap-options.ts";
import { explainTapError } from "./tap-error.ts";

/** `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6). */
const HEADER_LENGTH = 12;
const LONGEST_FRAME = 65_553;
/** Frames of one wake-up: what else the event loop has to do comes in between. */
const BATCH = 64;

const ETHERNET_HEADER = 14;
/** Bytes of a frame that tell flows apart: addresses and ports of IPv4; part of the addresses of IPv6. */
const FLOW = { START: 26, END: 38 } as const;
const HEADER_FLAGS = 0;
const HEADER_GSO_TYPE = 1;
/** What the kernel does for whoever writes to a tap, and leaves to who reads it. UDP segmentation is of newer kernels. */
const OFFLOADS: NetOffloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: false };

type Receive = (frame: Uint8Array, header?: Uint8Array) => boolean;

/** Segmentation needs checksums (linux/if_tun.h). */
function offloadFlags(taken: NetOffloads): number {
  if (!taken.checksum) return 0;
  let flags: number = TunOffload.TUN_F_CSUM;
  if (taken.tso4) flags |= TunOffload.TUN_F_TSO4;
  if (taken.tso6) flags |= TunOffload.TUN_F_TSO6;
  if (taken.ecn && (taken.tso4 || taken.tso6)) flags |= TunOffload.TUN_F_TSO_ECN;
  return flags;
}

interface Queue {
  readonly fd: number;
  watch: FdWatch | undefined;
}

/** A tap interface: frames of the guest come out of it on the host, and the other way round. */
export class TapNet implements NetBackend {
  /** Name of the interface. */
  readonly name: string;
  readonly mtu: number;
  readonly offloads?: NetOffloads;
  readonly setOffloads?: (taken: NetOffloads) => void;
  readonly #queues: readonly Queue[];
  readonly #incoming = new RootedBuffer(HEADER_LENGTH + LONGEST_FRAME);
  readonly #outgoing: GatheredWrite;
  readonly #headerLength: number;
  /** Of a frame that goes out, as much as chooses its queue. */
  readonly #head = new Uint8Array(FLOW.END);
  /** Bytes in `incoming` that the guest has had no room for. */
  #pending = 0;
  #receive: Receive | undefined;
  #onWritable: () => void = () => undefined;
  #writable: FdWatch | undefined;
  #isClosed = false;

  private constructor(queues: readonly TapQueue[], options: TapOptions) {
    const [first] = queues;
    this.name = first?.name ?? "";
    this.#queues = queues.map(({ fd }) => ({ fd, watch: undefined }));
    this.#headerLength = ((first?.flags ?? 0) & TunFlag.IFF_VNET_HDR) === 0 ? 0 : HEADER_LENGTH;
    this.#outgoing = new GatheredWrite(this.#headerLength, LONGEST_FRAME);
    if (this.#headerLength > 0) {
      this.offloads = OFFLOADS;
      this.setOffloads = (taken) => {
        for (const { fd } of queues) setTapOffload(fd, offloadFlags(taken));
      };
    }
    for (const { fd } of queues) {
      if (this.#headerLength > 0) setTapHeader(fd, this.#headerLength);
      setTapOffload(fd, 0);
      if (options.persistent !== undefined) setTapPersistent(fd, options.persistent);
    }
    if (options.mtu !== undefined) setInterfaceMtu(this.name, options.mtu);
    if (options.bridge !== undefined) attachToBridge(options.bridge, this.name);
    if (options.up !== false && options.fds === undefined) setInterfaceUp(this.name);
    this.mtu = interfaceMtu(this.name);
  }

  /** Makes or adopts the interface. Throws `NB_CONFIG`, or `NB_HOST` with the remedy. */
  static open(options: TapOptions): TapNet {
    checkTapOptions(options);
    const opened: TapQueue[] = [];
    let leave: (() => void) | undefined;
    try {
      if (options.namespace !== undefined) leave = enterNetworkNamespace(namespacePath(options.namespace));
      if (options.fds !== undefined) {
        for (const fd of options.fds) {
          opened.push(adoptTapQueue(fd));
          setNonBlocking(fd);
        }
      } else {
        const count = options.queues ?? 1;
        const flags = TunFlag.IFF_VNET_HDR | (count > 1 ? TunFlag.IFF_MULTI_QUEUE : 0);
        for (let index = 0; index < count; index += 1) {
          // `%d` has become a number with the first queue.
          opened.push(openTapQueue(opened[0]?.name ?? options.name ?? "nb%d", flags));
        }
      }
      return new TapNet(opened, options);
    } catch (error) {
      for (const { fd } of opened) if (options.fds === undefined) close(fd);
      throw explainTapError(error, options);
    } finally {
      leave?.();
    }
  }

  send(frame: readonly Uint8Array[], undone?: Uint8Array): boolean {
    if (this.#isClosed) return true;
    // Below a header the kernel says EINVAL; the guest's mistake is not ours.
    if (lengthOf(frame) < ETHERNET_HEADER) return true;
    const { header } = this.#outgoing;
    header.fill(0);
    // `num_buffers` is the receiver's.
    if (undone !== undefined && header.length > 0) header.set(undone.subarray(0, HEADER_LENGTH - 2));
    const queue = this.#queueFor(frame);
    try {
      if (this.#outgoing.write(queue.fd, frame) !== undefined) return true;
    } catch {
      // The interface is down (EIO) or gone (EBADFD): the frame is lost, as on a pulled cable.
      return true;
    }
    this.#waitForRoom(queue.fd);
    return false;
  }

  connect(receive: Receive, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.resume();
  }

  resume(): void {
    if (this.#isClosed || this.#receive === undefined) return;
    if (this.#pending > 0) {
      if (!this.#offer(this.#pending)) return;
      this.#pending = 0;
    }
    for (const queue of this.#queues) {
      queue.watch ??= new FdWatch(queue.fd, () => {
        this.#drain(queue);
      });
    }
  }

  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#stopReading();
      this.#writable?.close();
      for (const { fd } of this.#queues) close(fd);
    }
    return Promise.resolve();
  }

  #drain(queue: Queue): void {
    for (let left = BATCH; left > 0 && this.#pending === 0 && !this.#isClosed; left -= 1) {
      let length: number | undefined;
      try {
        length = read(queue.fd, this.#incoming);
      } catch {
        // The interface was removed under us.
        this.#stopReading();
        return;
      }
      if (length === undefined || length <= this.#headerLength) return;
      if (!this.#offer(length)) {
        this.#pending = length;
        this.#stopReading();
      }
    }
  }

  /** Offers the frame in `incoming` to the guest, with its header where it says anything. */
  #offer(length: number): boolean {
    const { bytes } = this.#incoming;
    const at = this.#headerLength;
    const frame = bytes.subarray(at, length);
    const isPlain = at === 0 || (bytes[HEADER_FLAGS] === 0 && bytes[HEADER_GSO_TYPE] === 0);
    return (isPlain ? this.#receive?.(frame) : this.#receive?.(frame, bytes.subarray(0, at))) === true;
  }

  #stopReading(): void {
    for (const queue of this.#queues) {
      queue.watch?.close();
      queue.watch = undefined;
    }
  }

  #waitForRoom(fd: number): void {
    this.#writable ??= new FdWatch(
      fd,
      () => {
        this.#writable?.close();
        this.#writable = undefined;
        this.#onWritable();
      },
      { writable: true },
    );
  }

  /** Frames of one flow stay on one queue, so that they stay in order. */
  #queueFor(frame: readonly Uint8Array[]): Queue {
    const [first, ...others] = this.#queues;
    if (first === undefined) throw new Error("a tap without queues");
    if (others.length === 0) return first;
    const head = this.#head;
    head.fill(0);
    gather(frame, head, 0);
    let hash = 0;
    for (const byte of head.subarray(FLOW.START)) hash = (Math.imul(hash, 31) + byte) | 0;
    return this.#queues[(hash >>> 0) % this.#queues.length] ?? first;
  }
}

/** Where iproute2 keeps the namespaces that it has names for (ip-netns(8)). */
const namespacePath = (name: string): string => (name.startsWith("/") ? name : `/run/netns/${name}`);

/**
 * A tap interface of a network namespace of this host, made or adopted. Needs CAP_NET_ADMIN, or an interface that was made
 * for this user beforehand. Throws `NB_CONFIG` and `NB_HOST`.
 */
export function tap(options: TapOptions = {}): TapNet {
  return TapNet.open(options);
}
