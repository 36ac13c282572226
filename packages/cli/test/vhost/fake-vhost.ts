import { closeSync, openSync, readlinkSync, readSync, writeSync } from "node:fs";
import { FdWatch, type RootedBuffer, SystemCallError, type VhostChannel } from "@northbridge/linux";

/** Feature bits, and linux/vhost.h's structures, written down apart from the code under test. */
const [MRG_RXBUF, EVENT_IDX, VERSION_1] = [15, 29, 32];
const OFFERED = (1n << 15n) | (1n << 28n) | (1n << 29n) | (1n << 32n);
const [NEXT, WRITE] = [1, 2];
const NO_INTERRUPT = 1;
const NUM_BUFFERS = 10;

interface Region {
  readonly gpa: number;
  readonly size: number;
  readonly user: number;
}

interface Vring {
  num: number;
  base: number;
  addresses: { readonly desc: number; readonly used: number; readonly avail: number } | undefined;
  kick: number;
  call: number;
  backend: number;
  watch: FdWatch | undefined;
}

/**
 * The kernel's side of `/dev/vhost-net` as linux/vhost.h and drivers/vhost have it: what is asked in which order, what is
 * refused, and split rings that are served between guest memory, at the addresses it was given, and a tap.
 */
export class FakeVhost {
  /** Requests in words, as they came. */
  readonly asked: string[] = [];
  /** Packets that the guest sent: headers of 12 bytes and frames. */
  transmit: (packet: Uint8Array) => void = () => undefined;
  /** The guest has given buffers. */
  offered: () => void = () => undefined;
  /** Refuses this request from now on. */
  refuses: string | undefined;
  readonly ask: VhostChannel = (request, argument) => {
    this.#serve(request.slice("VHOST_".length), argument);
  };
  readonly #memory = openSync("/proc/self/mem", "r+");
  readonly #scratch = new DataView(new ArrayBuffer(16));
  #isOwned = false;
  #features = 0n;
  #regions: readonly Region[] = [];
  readonly #rings: readonly [Vring, Vring] = [newRing(), newRing()];

  close(): void {
    this.asked.push("close");
    for (const ring of this.#rings) ring.watch?.close();
    closeSync(this.#memory);
  }

  /** A packet from the tap. False where the guest has no room for it. */
  receive(packet: Uint8Array): boolean {
    const [ring] = this.#rings;
    if (ring.backend < 0) return false;
    const heads: { readonly head: number; readonly length: number }[] = [];
    const base = ring.base;
    for (let done = 0; done < packet.length; ) {
      const taken = this.#take(ring);
      if (taken === undefined || (heads.length === 1 && !this.#has(MRG_RXBUF))) {
        ring.base = base;
        return false;
      }
      let length = 0;
      for (const { gpa, size } of taken.buffers.filter(({ isWritable }) => isWritable)) {
        const part = packet.subarray(done, done + size);
        this.#write(this.#user(gpa, part.length), part);
        done += part.length;
        length += part.length;
      }
      heads.push({ head: taken.head, length });
    }
    const [first] = heads;
    const head = this.#chain(ring, first?.head ?? 0)[0];
    this.#write(
      this.#user((head?.gpa ?? 0) + NUM_BUFFERS, 2),
      Uint8Array.of(heads.length & 255, heads.length >> 8),
    );
    for (const { head: index, length } of heads) this.#use(ring, index, length);
    this.#call(ring);
    return true;
  }

  #serve(request: string, argument: RootedBuffer | undefined): void {
    const view = argument?.view ?? new DataView(new ArrayBuffer(8));
    const said = (words: string): void => void this.asked.push(`${request} ${words}`.trim());
    if (request === this.refuses) throw error("EBUSY", request);
    if (!this.#isOwned && request !== "SET_OWNER") throw error("EPERM", request);
    if (request.includes("VRING") || request === "NET_SET_BACKEND") {
      this.#serveRing(request, view, said);
      return;
    }
    switch (request) {
      case "SET_OWNER":
        if (this.#isOwned) throw error("EBUSY", request);
        this.#isOwned = true;
        said("");
        return;
      case "GET_FEATURES":
        view.setBigUint64(0, OFFERED, true);
        said("");
        return;
      case "SET_FEATURES":
        this.#features = view.getBigUint64(0, true);
        if ((this.#features & ~OFFERED) !== 0n) throw error("EOPNOTSUPP", request);
        said([MRG_RXBUF, EVENT_IDX, VERSION_1].filter((bit) => this.#has(bit)).join(" "));
        return;
      case "SET_MEM_TABLE":
        this.#regions = Array.from({ length: view.getUint32(0, true) }, (_, index) => {
          const at = (word: number): number => Number(view.getBigUint64(8 + 32 * index + 8 * word, true));
          return { gpa: at(0), size: at(1), user: at(2) };
        });
        said(this.#regions.map(({ gpa, size }) => `${gpa}+${size}`).join(" "));
        return;
      default:
        throw error("ENOIOCTLCMD", request);
    }
  }

  #serveRing(request: string, view: DataView, said: (words: string) => void): void {
    const index = view.getUint32(0, true);
    const ring = this.#rings[index];
    if (ring === undefined) throw error("ENOBUFS", request);
    const value = view.getInt32(4, true);
    const isActive = ring.backend >= 0;
    switch (request) {
      case "SET_VRING_NUM":
        if (isActive) throw error("EBUSY", request);
        if (value <= 0 || (value & (value - 1)) !== 0) throw error("EINVAL", request);
        ring.num = value;
        said(`${index}: ${value}`);
        return;
      case "SET_VRING_BASE":
        if (isActive) throw error("EBUSY", request);
        ring.base = value;
        said(`${index}: ${value}`);
        return;
      case "GET_VRING_BASE":
        view.setUint32(4, ring.base, true);
        said(`${index}: ${ring.base}`);
        return;
      case "SET_VRING_ADDR": {
        const at = (word: number): number => Number(view.getBigUint64(8 * word, true));
        ring.addresses = { desc: at(1), used: at(2), avail: at(3) };
        for (const address of Object.values(ring.addresses)) this.#regionOf(address);
        said(`${index}`);
        return;
      }
      case "SET_VRING_KICK":
        ring.watch?.close();
        ring.kick = eventFd(value, request);
        ring.watch = new FdWatch(ring.kick, () => {
          readSync(ring.kick, this.#scratch, 0, 8, null);
          this.#kicked(index);
        });
        said(`${index}`);
        return;
      case "SET_VRING_CALL":
        ring.call = eventFd(value, request);
        said(`${index}`);
        return;
      case "NET_SET_BACKEND":
        if (value >= 0 && ring.addresses === undefined) throw error("EFAULT", request);
        ring.backend = value;
        said(`${index}: ${value}`);
        if (value >= 0) this.#kicked(index);
        return;
      default:
        throw error("ENOIOCTLCMD", request);
    }
  }

  #kicked(index: number): void {
    const ring = this.#rings[index];
    if (ring === undefined || ring.backend < 0) return;
    if (index === 0) {
      this.offered();
      return;
    }
    for (let taken = this.#take(ring); taken !== undefined; taken = this.#take(ring)) {
      const parts = taken.buffers.map(({ gpa, size }) => this.#read(this.#user(gpa, size), size));
      this.transmit(Uint8Array.from(Buffer.concat(parts)));
      this.#use(ring, taken.head, 0);
    }
    this.#call(ring);
  }

  /** The next chain that the driver made available (virtio 1.3 §2.7.6), and says that it was looked at (§2.7.10). */
  #take(ring: Vring):
    | {
        readonly head: number;
        readonly buffers: readonly {
          readonly gpa: number;
          readonly size: number;
          readonly isWritable: boolean;
        }[];
      }
    | undefined {
    const { avail, used } = ring.addresses!;
    this.#write16(used + 4 + 8 * ring.num, ring.base);
    if (this.#read16(avail + 2) === (ring.base & 0xffff)) return undefined;
    const head = this.#read16(avail + 4 + 2 * (ring.base % ring.num));
    ring.base = (ring.base + 1) & 0xffff;
    return { head, buffers: this.#chain(ring, head) };
  }

  #chain(ring: Vring, head: number) {
    const buffers: { readonly gpa: number; readonly size: number; readonly isWritable: boolean }[] = [];
    for (let index = head; buffers.length <= ring.num; ) {
      const bytes = this.#read(ring.addresses!.desc + 16 * index, 16);
      const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
      const flags = view.getUint16(12, true);
      const [gpa, size] = [Number(view.getBigUint64(0, true)), view.getUint32(8, true)];
      buffers.push({ gpa, size, isWritable: (flags & WRITE) !== 0 });
      if ((flags & NEXT) === 0) return buffers;
      index = view.getUint16(14, true);
    }
    throw new Error("a loop of descriptors");
  }

  #use(ring: Vring, head: number, length: number): void {
    const { used } = ring.addresses!;
    const index = this.#read16(used + 2);
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, head, true);
    view.setUint32(4, length, true);
    this.#write(used + 4 + 8 * (index % ring.num), new Uint8Array(view.buffer));
    this.#write16(used + 2, index + 1);
  }

  #call(ring: Vring): void {
    if (!this.#has(EVENT_IDX) && (this.#read16(ring.addresses!.avail) & NO_INTERRUPT) !== 0) return;
    const one = new DataView(new ArrayBuffer(8));
    one.setBigUint64(0, 1n, true);
    writeSync(ring.call, one);
  }

  #has(feature: number): boolean {
    return ((this.#features >> BigInt(feature)) & 1n) === 1n;
  }

  #user(gpa: number, length: number): number {
    const region = this.#regions.find((one) => gpa >= one.gpa && gpa + length <= one.gpa + one.size);
    if (region === undefined) throw error("EFAULT", `guest memory at ${gpa}`);
    return region.user + gpa - region.gpa;
  }

  #regionOf(address: number): Region {
    const region = this.#regions.find(({ user, size }) => address >= user && address < user + size);
    if (region === undefined) throw error("EFAULT", `memory at ${address}`);
    return region;
  }

  #read(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readSync(this.#memory, bytes, 0, length, address);
    return bytes;
  }

  #write(address: number, bytes: Uint8Array): void {
    writeSync(this.#memory, bytes, 0, bytes.length, address);
  }

  #read16(address: number): number {
    const [low = 0, high = 0] = this.#read(address, 2);
    return low | (high << 8);
  }

  #write16(address: number, value: number): void {
    this.#write(address, Uint8Array.of(value & 255, (value >> 8) & 255));
  }
}

const newRing = (): Vring => ({
  num: 0,
  base: 0,
  addresses: undefined,
  kick: -1,
  call: -1,
  backend: -1,
  watch: undefined,
});

const error = (errno: string, what: string): SystemCallError => new SystemCallError("ioctl", errno, what);

function eventFd(fd: number, request: string): number {
  if (readlinkSync(`/proc/self/fd/${fd}`) !== "anon_inode:[eventfd]") throw error("EINVAL", request);
  return fd;
}
