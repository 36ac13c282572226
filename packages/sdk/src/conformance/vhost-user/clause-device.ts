import { FakeMemory } from "../../testing/fake-memory.ts";
import { DescFlag } from "../../virtio/spec.ts";
import { type RawDescriptor, RawRing } from "../virtio/raw-ring.ts";
import type { ProbeRequest } from "../virtio/target.ts";
import { bitsPayload, ClauseFront, u32, u64, violated } from "./clause-front.ts";
import { FeatureBit, NO_FD, Protocol, Request } from "./spec.ts";
import type { EventCounter, SharedBytes, VhostUserWire } from "./wire.ts";

/** Of each of the two regions. */
const REGION_BYTES = 1 << 20;
const RING_SIZE = 16;
/** Any addresses, and none of them the same. */
const REGIONS = [
  { gpa: 0x10_0000, userAddress: 0x7f00_0000_0000, offset: 0 },
  { gpa: 0x8000_0000, userAddress: 0x6e00_0000_0000, offset: REGION_BYTES },
] as const;
/** Protocol features that the suite has a use for. STATUS is tried by itself: it makes a driver's status count. */
const WANTED: readonly number[] = [
  Protocol.MQ,
  Protocol.REPLY_ACK,
  Protocol.CONFIG,
  Protocol.CONFIGURE_MEM_SLOTS,
];

export interface StartOptions {
  /** Protocol features to agree on where they are offered; `false` leaves out that there are any. */
  readonly protocol?: readonly number[] | false;
  /** Regions one by one, instead of in a table. */
  readonly addsRegions?: boolean;
  /** Leaves the ring disabled. */
  readonly isDisabled?: boolean;
  /** Where the ring goes on. */
  readonly base?: number;
  /** Without a descriptor for calls: the driver polls. */
  readonly polls?: boolean;
}

/** A back end at work: memory in two regions, rings in the first and buffers in the second, and one ring of it set up. */
export class ClauseDevice {
  readonly front: ClauseFront;
  readonly kick: EventCounter;
  readonly call: EventCounter;
  readonly #probe: ProbeRequest;
  readonly #shared: SharedBytes;
  readonly #ring: RawRing;
  readonly #buffers: FakeMemory;
  #next: number = REGIONS[1].gpa;

  constructor(front: ClauseFront, probe: ProbeRequest) {
    const { wire } = front;
    this.front = front;
    this.#probe = probe;
    this.kick = wire.createCounter();
    this.call = wire.createCounter();
    this.#shared = wire.shareMemory(2 * REGION_BYTES);
    const part = (index: 0 | 1): FakeMemory =>
      new FakeMemory(
        this.#shared.bytes.subarray(index * REGION_BYTES, (index + 1) * REGION_BYTES),
        REGIONS[index].gpa,
      );
    this.#ring = new RawRing(part(0), REGIONS[0].gpa, RING_SIZE);
    this.#buffers = part(1);
  }

  static async start(
    wire: VhostUserWire,
    probe: ProbeRequest,
    options: StartOptions = {},
  ): Promise<ClauseDevice> {
    const device = new ClauseDevice(await ClauseFront.connect(wire), probe);
    try {
      await device.negotiate(options);
      await device.shareMemory(options.addsRegions === true);
      await device.startRing(options);
    } catch (error) {
      device.close();
      throw error;
    }
    return device;
  }

  /** Agrees on as little as there can be: VERSION_1, and protocol features where they are wanted. */
  async negotiate({ protocol = WANTED }: StartOptions = {}): Promise<void> {
    const { front } = this;
    const offered = await front.bits(Request.GET_FEATURES);
    const hasProtocol = protocol !== false && offered.includes(FeatureBit.PROTOCOL_FEATURES);
    if (hasProtocol) await front.agree(protocol);
    await front.tell(Request.SET_OWNER);
    const features = [FeatureBit.VERSION_1, ...(hasProtocol ? [FeatureBit.PROTOCOL_FEATURES] : [])];
    await front.tell(Request.SET_FEATURES, bitsPayload(features));
  }

  async shareMemory(oneByOne: boolean): Promise<void> {
    const { fd } = this.#shared;
    if (oneByOne) {
      for (const region of REGIONS)
        await this.front.tell(Request.ADD_MEM_REG, Uint8Array.from([...u64(0), ...regionPayload(region)]), [
          fd,
        ]);
      return;
    }
    const table = [...u32(REGIONS.length, 0), ...REGIONS.flatMap((region) => [...regionPayload(region)])];
    await this.front.tell(Request.SET_MEM_TABLE, Uint8Array.from(table), [fd, fd]);
  }

  /** Takes a region away that `shareMemory` added. */
  async removeBuffers(): Promise<void> {
    await this.front.tell(Request.REM_MEM_REG, Uint8Array.from([...u64(0), ...regionPayload(REGIONS[1])]));
  }

  async startRing({
    base = 0,
    isDisabled = false,
    polls = false,
    protocol,
  }: StartOptions = {}): Promise<void> {
    const { front } = this;
    const index = this.#probe.queue;
    const { desc, driver, device } = this.#ring.addresses;
    const user = (gpa: number): number => gpa - REGIONS[0].gpa + REGIONS[0].userAddress;
    await front.tell(Request.SET_VRING_NUM, u32(index, RING_SIZE));
    await front.tell(Request.SET_VRING_BASE, u32(index, base));
    await front.tell(
      Request.SET_VRING_ADDR,
      Uint8Array.from([...u32(index, 0), ...u64(user(desc), user(device), user(driver), 0)]),
    );
    await front.tell(Request.SET_VRING_CALL, u64(polls ? index | NO_FD : index), polls ? [] : [this.call.fd]);
    await front.tell(Request.SET_VRING_KICK, u64(index), [this.kick.fd]);
    if (!isDisabled && protocol !== false) await this.enable(true);
  }

  /** Calls go to another counter from here on. */
  async setCall(counter: EventCounter): Promise<void> {
    await this.front.tell(Request.SET_VRING_CALL, u64(this.#probe.queue), [counter.fd]);
  }

  async enable(isEnabled: boolean): Promise<void> {
    await this.front.tell(Request.SET_VRING_ENABLE, u32(this.#probe.queue, isEnabled ? 1 : 0));
  }

  /** Stops the ring. Returns where it goes on. */
  async stop(): Promise<number> {
    const { payload } = await this.front.ask(Request.GET_VRING_BASE, u32(this.#probe.queue, 0));
    if (payload.byteLength !== 8) violated(`GET_VRING_BASE: ${payload.byteLength} bytes, expected 8`);
    if (payload.getUint32(0, true) !== this.#probe.queue)
      violated("GET_VRING_BASE: the answer is of another ring");
    return payload.getUint32(4, true);
  }

  /** Requests that the device has used. */
  get used(): number {
    return this.#ring.usedIdx;
  }

  /** Offers a request and kicks the ring. Returns what looks at the answer. */
  offer(): () => void {
    const { readable, writable, check } = this.#probe;
    const readableGpa = this.#next;
    const writableGpa = readableGpa + ((readable.length + 63) & ~63);
    this.#next = writableGpa + ((writable + 63) & ~63);
    this.#buffers.write(readableGpa, readable);
    const parts: RawDescriptor[] = [];
    if (readable.length > 0) parts.push({ gpa: readableGpa, length: readable.length, flags: 0 });
    if (writable > 0) parts.push({ gpa: writableGpa, length: writable, flags: DescFlag.WRITE });
    const head = this.#ring.offer(parts);
    const at = this.used;
    this.kick.signal();
    return () => {
      const { id, length } = this.#ring.used(at);
      if (id !== head) violated(`used element ${id}, expected the head ${head}`);
      const answer = new Uint8Array(writable);
      this.#buffers.read(writableGpa, answer);
      const fault = check?.(answer, length);
      if (fault !== undefined) violated(fault);
    };
  }

  /** A whole request: offered, waited for and looked at. */
  async request(): Promise<void> {
    const before = this.used;
    const look = this.offer();
    if (!(await this.front.until(() => this.used !== before)))
      violated("the back end did not use the buffer");
    look();
  }

  /** Throws where the device uses a buffer in the time that it would need to. */
  async expectIdle(why: string): Promise<void> {
    const before = this.used;
    await this.front.wire.linger();
    if (this.used !== before) violated(`the back end processed the ring ${why}`);
  }

  close(): void {
    this.front.close();
    this.kick.close();
    this.call.close();
    this.#shared.close();
  }
}

const regionPayload = ({ gpa, userAddress, offset }: (typeof REGIONS)[number]): Uint8Array =>
  u64(gpa, REGION_BYTES, userAddress, offset);
