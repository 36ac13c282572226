import { close, createMemfd, EventFd, SharedMapping, socketPair } from "@northbridge/linux";
import { VirtioBlk } from "@northbridge/devices-virtio";
import type { BlockBackend } from "@northbridge/sdk";
import { type DriverQueue, FakeMemory, PackedDriverQueue, SplitDriverQueue } from "@northbridge/sdk/testing";
import { FeatureSet } from "@northbridge/sdk/virtio";
import { FrontEnd, type Inflight } from "../src/frontend/front-end.ts";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";

const MEMORY = 4 << 20;
const USER_ADDRESS = 0x5500_0000_0000;
const RING = 32;
const SECTORS = 64;
const [VERSION_1, EVENT_IDX, RING_PACKED] = [32, 29, 34];
/** Where a driver starts in a packed ring: both wrap counters are 1. */
const PACKED_START = 0x8000_8000;
const WRITE = 1;

/** Writes that end when the test says so, in the order it says. */
export class HeldDisk {
  readonly bytes: Uint8Array = new Uint8Array(SECTORS * 512);
  /** Ends of the writes of the back end that lives. */
  held: (() => void)[] = [];

  backend(): BlockBackend {
    return {
      size: this.bytes.length,
      blockSize: 512,
      readOnly: false,
      read: () => Promise.resolve(),
      write: (offset, from) => {
        const data = from.map((part) => part.slice());
        return new Promise((resolve) => {
          this.held.push(() => {
            let at = offset;
            for (const part of data) {
              this.bytes.set(part, at);
              at += part.length;
            }
            resolve();
          });
        });
      },
      flush: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
  }
}

/** A driver of a disk behind vhost-user, whose back ends come and go. */
export class DiskBench {
  readonly disk: HeldDisk = new HeldDisk();
  readonly memory: FakeMemory;
  readonly queue: DriverQueue;
  /** Sector that each request under way writes, by its head. */
  readonly underWay: Map<number, number> = new Map<number, number>();
  /** What the sectors hold once every request has ended. */
  readonly expected: Uint8Array = new Uint8Array(this.disk.bytes.length);
  used = 0;
  readonly #isPacked: boolean;
  readonly #memfd = createMemfd("disk bench", MEMORY);
  readonly #mapping = new SharedMapping(this.#memfd, MEMORY, "disk bench");
  #next: number;
  #inflight: Inflight | undefined;
  #front: FrontEnd | undefined;
  #served: Promise<string> | undefined;
  #counters: EventFd[] = [];
  #backends: VhostUserBackend[] = [];

  constructor(isPacked = false) {
    this.#isPacked = isPacked;
    this.memory = new FakeMemory(new Uint8Array(this.#mapping.buffer, 0, MEMORY));
    const Queue = isPacked ? PackedDriverQueue : SplitDriverQueue;
    this.queue = new Queue({ memory: this.memory, gpa: 0x1000, size: RING, eventIdx: true });
    this.#next = 0x1000 + this.queue.byteLength;
  }

  /** The used index as the device wrote it: of a split ring. */
  get usedIdx(): number {
    return this.memory.readU16(this.queue.addresses.device + 2);
  }

  get backend(): VhostUserBackend {
    const backend = this.#backends.at(-1);
    if (backend === undefined) throw new Error("no back end yet");
    return backend;
  }

  /** A new process with the device, as far as anybody can tell. */
  newBackend(): void {
    const device = new VirtioBlk({ backend: this.disk.backend(), serial: "held", queueSize: RING });
    this.#backends.push(new VhostUserBackend({ device, createMemory, packed: this.#isPacked }));
  }

  /**
   * Connects to the back end and lets it go on from where the used ring is, as QEMU does; of a packed ring it does not
   * know where that is, and says where it began.
   */
  async connect(base: number = this.#isPacked ? PACKED_START : this.usedIdx): Promise<void> {
    const [ours, theirs] = socketPair();
    this.#served = this.backend.serve(theirs);
    const front = new FrontEnd(ours);
    this.#front = front;
    await front.negotiate();
    await front.setFeatures(FeatureSet.of([VERSION_1, EVENT_IDX, ...(this.#isPacked ? [RING_PACKED] : [])]));
    this.#inflight ??= await front.inflight(1, RING);
    if (this.#inflight !== undefined) await front.setInflight(this.#inflight);
    await this.setMemory(true);
    const { desc, driver, device } = this.queue.addresses;
    const [kick, call] = [new EventFd(), new EventFd()];
    this.#counters = [kick, call];
    const user = (gpa: number): number => USER_ADDRESS + gpa;
    const place = { size: RING, base, desc: user(desc), avail: user(driver), used: user(device) };
    await front.startRing(0, place, kick, call);
    await front.enableRing(0, true);
  }

  /** Lets the back end have all of the memory, or none. */
  async setMemory(isThere: boolean): Promise<void> {
    const all = { gpa: 0, size: MEMORY, userAddress: USER_ADDRESS, fd: this.#memfd, offset: 0 };
    await this.#front?.setMemory(isThere ? [all] : []);
  }

  /** What GET_VRING_BASE says. */
  async stop(): Promise<number> {
    return (await this.#front?.stopRing(0)) ?? 0;
  }

  /** RESET_DEVICE. */
  async reset(): Promise<void> {
    await this.#front?.reset();
  }

  /** The connection breaks. Resolves once the back end has let go, which a dead one never does. */
  async disconnect(): Promise<void> {
    this.#front?.close();
    for (const counter of this.#counters.splice(0)) counter.close();
    await this.#served;
  }

  /** The back end dies: nothing of what it had under way happens any more. */
  crash(): (() => void)[] {
    this.#front?.close();
    for (const counter of this.#counters.splice(0)) counter.close();
    return this.disk.held.splice(0);
  }

  /** Offers a write of one sector, unless another one writes it. False where there is no room. */
  offer(sector: number, byte: number): boolean {
    if ([...this.underWay.values()].includes(sector) || this.queue.free < 3) return false;
    const header = this.#next;
    if (header + 1024 > MEMORY) return false;
    this.#next += 1024;
    this.memory.writeU32(header, WRITE);
    this.memory.writeU32(header + 8, sector);
    const data = new Uint8Array(512).fill(byte);
    this.memory.write(header + 16, data);
    const segments = [
      { gpa: header, length: 16 },
      { gpa: header + 16, length: 512 },
    ];
    const head = this.queue.add(segments, [{ gpa: header + 1000, length: 1 }]);
    if (head === undefined) return false;
    this.underWay.set(head, sector);
    this.expected.set(data, sector * 512);
    this.#counters[0]?.signal();
    return true;
  }

  /** Takes what the device has used. Throws where it was not under way. */
  collect(): void {
    for (const { id } of this.queue.collect()) {
      if (!this.underWay.delete(id)) throw new Error(`request ${id} was used twice`);
      this.used++;
    }
  }

  async close(): Promise<void> {
    await this.disconnect();
    for (const backend of this.#backends) await backend.close();
    this.#mapping.unmap();
    close(this.#memfd);
    if (this.#inflight !== undefined) close(this.#inflight.fd);
  }
}
