import type { GuestMemory } from "@northbridge/core/contracts";
import type { DriverQueue } from "../../virtio/driver-queue.ts";
import { FeatureSet } from "../../virtio/feature-set.ts";
import { PackedDriverQueue } from "../../virtio/packed-driver-queue.ts";
import { Feature, Status } from "../../virtio/spec.ts";
import { SplitDriverQueue } from "../../virtio/split-driver-queue.ts";
import type { VirtioDevice } from "../../virtio/virtio-device.ts";
import { VirtioEndpoint } from "../../virtio/virtio-endpoint.ts";
import { FakeMemory } from "../fake-memory.ts";

/** What the driver of a bench does its own way. */
export interface VirtioBenchOptions {
  /** The device's, for messages. @defaultValue "bench" */
  readonly name?: string;
  readonly memory?: GuestMemory;
  /** Features the driver accepts. @defaultValue all that are offered but a packed ring */
  readonly accept?: (bit: number) => boolean;
  readonly packed?: boolean;
  /** Whether the device uses buffers in order, which it then offers. @defaultValue false */
  readonly inOrder?: boolean;
  readonly eventIdx?: boolean;
  /** At most the device's. */
  readonly queueSize?: number;
}

/** A virtio device without a transport, and a driver that has started it. */
export class VirtioBench {
  readonly memory: GuestMemory;
  readonly endpoint: VirtioEndpoint;
  readonly queues: DriverQueue[] = [];
  /** By queue: interrupts so far. */
  readonly interrupts: number[];
  configInterrupts = 0;
  notifications = 0;
  readonly #options: VirtioBenchOptions;
  #next = 0x1000;

  constructor(device: VirtioDevice, options: VirtioBenchOptions = {}) {
    this.#options = options;
    this.memory = options.memory ?? new FakeMemory(16 << 20);
    this.interrupts = device.queues.map(() => 0);
    this.endpoint = new VirtioEndpoint({
      name: options.name ?? "bench",
      device,
      memory: this.memory,
      ringFeatures: [Feature.RING_PACKED, ...(options.inOrder === true ? [Feature.IN_ORDER] : [])],
      interrupts: {
        queue: (index) => {
          this.interrupts[index] = (this.interrupts[index] ?? 0) + 1;
        },
        config: () => {
          this.configInterrupts++;
        },
      },
    });
  }

  /**
   * The driver's way to DRIVER_OK (§3.1.1). Again after a reset, with empty rings where the old ones were.
   * @param accept features the driver accepts this time
   */
  start(accept: (bit: number) => boolean = this.#options.accept ?? (() => true)): this {
    const { endpoint } = this;
    const { packed = false, eventIdx = true } = this.#options;
    endpoint.setStatus(Status.ACKNOWLEDGE);
    endpoint.setStatus(Status.ACKNOWLEDGE | Status.DRIVER);
    const wanted: number[] = [];
    for (let bit = 0; bit < 64; bit++) {
      const isRefused = (bit === Feature.RING_PACKED && !packed) || (bit === Feature.EVENT_IDX && !eventIdx);
      if (endpoint.offered.has(bit) && !isRefused && accept(bit)) wanted.push(bit);
    }
    const features = FeatureSet.of(wanted);
    endpoint.setFeatures(0, features.low);
    endpoint.setFeatures(1, features.high);
    endpoint.setStatus(endpoint.status | Status.FEATURES_OK);
    endpoint.queues.forEach((registers, index) => {
      registers.setSize(Math.min(registers.maxSize, this.#options.queueSize ?? registers.maxSize));
      const Queue = features.has(Feature.RING_PACKED) ? PackedDriverQueue : SplitDriverQueue;
      const old = this.queues[index];
      const queue = new Queue({
        memory: this.memory,
        gpa: old?.addresses.desc ?? this.#next,
        size: registers.size,
        eventIdx: features.has(Feature.EVENT_IDX),
      });
      if (old === undefined) this.alloc(32 * registers.size + 32); // either layout fits
      this.queues[index] = queue;
      const { desc, driver, device } = queue.addresses;
      [desc, driver, device].forEach((gpa, area) => {
        registers.setArea(2 * area, gpa >>> 0);
        registers.setArea(2 * area + 1, Math.floor(gpa / 2 ** 32));
      });
      endpoint.enableQueue(index);
    });
    endpoint.setStatus(endpoint.status | Status.DRIVER_OK);
    return this;
  }

  /** Memory for buffers, 16-aligned. Never given back. */
  alloc(length: number): number {
    const gpa = this.#next;
    this.#next += (length + 15) & ~15;
    return gpa;
  }

  /** Memory for buffers with these contents. */
  allocBytes(bytes: Uint8Array): number {
    const gpa = this.alloc(bytes.length);
    this.memory.write(gpa, bytes);
    return gpa;
  }

  /** The driver's side of a queue. */
  queue(index: number): DriverQueue {
    const queue = this.queues[index];
    if (queue === undefined) throw new Error(`no queue ${index}`);
    return queue;
  }

  /** Notifies if the device wants to hear. */
  kick(index: number): void {
    if (!this.queue(index).needsNotification()) return;
    this.notifications++;
    this.endpoint.notify(index);
  }

  bytes(gpa: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (!this.memory.read(gpa, bytes)) throw new Error(`no memory at 0x${gpa.toString(16)}`);
    return bytes;
  }
}
