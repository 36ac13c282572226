import type { Doorbell, IoHandler, IoWidth } from "@northbridge/sdk";
import { virtioSpec, type VirtioEndpoint } from "@northbridge/sdk/virtio";
import { lowBytes } from "./low-bytes.ts";
import { Legacy, LEGACY_ALIGN } from "./spec.ts";

const { Desc, Ring, Status } = virtioSpec;

/** What both interfaces of a transitional device share. */
export interface LegacyParts {
  readonly endpoint: VirtioEndpoint;
  /** Whether MSI-X is enabled: then the registers of vectors are there, and the configuration moves behind them. */
  readonly hasVectors: () => boolean;
  readonly isBusMaster: () => boolean;
  /** Selected by either interface. */
  readonly selected: () => number;
  readonly select: (queue: number) => void;
  /** Vector of a queue, or with -1 of configuration changes. */
  readonly vector: (queue: number) => number;
  readonly setVector: (queue: number, value: number) => void;
  /** Reading acknowledges. */
  readonly takeIsr: () => number;
  readonly reset: () => void;
}

/**
 * The registers of drivers older than virtio 1.0, in an I/O BAR (virtio 1.3 §4.1.4.10): features of 32 bits, and queues
 * of one piece and the device's size (§2.7.2). Nothing of them is state of its own.
 */
export class LegacyRegisters implements IoHandler {
  readonly doorbells: readonly Doorbell[];
  readonly #parts: LegacyParts;

  constructor(parts: LegacyParts) {
    this.#parts = parts;
    this.doorbells = parts.endpoint.queues.map((_, value) => ({
      offset: Legacy.QUEUE_NOTIFY,
      width: 2,
      value,
    }));
  }

  /** Bytes that it takes, as a power of two. */
  static length(configLength: number): number {
    return 2 ** Math.ceil(Math.log2(Legacy.CONFIG_AFTER_VECTORS + configLength));
  }

  read(offset: number, width: IoWidth): number {
    return lowBytes(this.#read(offset, width), width);
  }

  #read(offset: number, width: IoWidth): number {
    const { endpoint, selected, hasVectors, vector, takeIsr } = this.#parts;
    const queue = endpoint.queues[selected()];
    switch (offset) {
      case Legacy.DEVICE_FEATURES:
        return endpoint.offered.low;
      case Legacy.DRIVER_FEATURES:
        return endpoint.features.low;
      case Legacy.QUEUE_PFN:
        return queue?.isEnabled === true ? Math.floor(queue.addresses.desc / LEGACY_ALIGN) >>> 0 : 0;
      case Legacy.QUEUE_SIZE:
        return queue?.maxSize ?? 0;
      case Legacy.QUEUE_SELECT:
        return selected();
      case Legacy.STATUS:
        return endpoint.status & ~Status.FEATURES_OK;
      case Legacy.ISR:
        return takeIsr();
    }
    if (hasVectors()) {
      if (offset === Legacy.CONFIG_VECTOR) return vector(-1);
      if (offset === Legacy.QUEUE_VECTOR) return vector(selected());
    }
    return offset >= this.#config ? endpoint.readConfig(offset - this.#config, width) : 0;
  }

  write(offset: number, width: IoWidth, value: number): void {
    const { endpoint, selected, select, hasVectors, setVector, isBusMaster, reset } = this.#parts;
    switch (offset) {
      case Legacy.DRIVER_FEATURES:
        endpoint.setFeatures(0, value);
        endpoint.setFeatures(1, 0);
        return;
      case Legacy.QUEUE_PFN:
        this.#place(value);
        return;
      case Legacy.QUEUE_SELECT:
        select(value & 0xffff);
        return;
      case Legacy.QUEUE_NOTIFY:
        if (isBusMaster()) endpoint.notifyLegacy(value & 0xffff);
        return;
      case Legacy.STATUS:
        if ((value & 0xff) === 0) reset();
        else endpoint.setLegacyStatus(value & 0xff);
        return;
    }
    if (hasVectors() && offset === Legacy.CONFIG_VECTOR) setVector(-1, value);
    else if (hasVectors() && offset === Legacy.QUEUE_VECTOR) setVector(selected(), value);
    else if (offset >= this.#config) endpoint.writeConfig(offset - this.#config, width, value);
  }

  get #config(): number {
    return this.#parts.hasVectors() ? Legacy.CONFIG_AFTER_VECTORS : Legacy.CONFIG;
  }

  /** Enables the selected queue at a page; at page 0 there is none. */
  #place(page: number): void {
    const { endpoint, selected } = this.#parts;
    const queue = endpoint.queues[selected()];
    if (queue === undefined) return;
    endpoint.disableQueue(selected());
    if (page === 0) return;
    const desc = page * LEGACY_ALIGN;
    const driver = desc + Desc.LENGTH * queue.maxSize;
    const end = driver + Ring.RING + Ring.AVAIL_ENTRY * queue.maxSize + 2;
    const device = Math.ceil(end / LEGACY_ALIGN) * LEGACY_ALIGN;
    queue.setSize(queue.maxSize);
    [desc, driver, device].forEach((gpa, area) => {
      queue.setArea(2 * area, gpa >>> 0);
      queue.setArea(2 * area + 1, Math.floor(gpa / 2 ** 32));
    });
    endpoint.enableQueue(selected());
  }
}
