import { RestoreError } from "@northbridge/core/contracts";
import type { DeviceQueue } from "./device-queue.ts";
import type { QueueAddresses, QueueStateV1 } from "./virt-queue.ts";

/** Saved form of one queue, version 1. */
export interface QueueRegistersStateV1 {
  readonly size: number;
  readonly isEnabled: boolean;
  /** Words low, high of the descriptor, driver and device areas. */
  readonly areas: readonly number[];
  /** Null where the queue is not in use, or a driver's mistake has ended it. */
  readonly queue: QueueStateV1 | null;
}

const WORD = 2 ** 32;

/** What a driver tells of one queue, whatever the transport's registers look like. */
export class QueueRegisters {
  readonly maxSize: number;
  /** Of all queues there have been. */
  readonly stats: { requests: number; interrupts: number } = { requests: 0, interrupts: 0 };
  size: number;
  isEnabled = false;
  isResetting = false;
  queue: DeviceQueue | undefined;
  readonly #areas: Uint32Array = new Uint32Array(6);

  constructor(maxSize: number) {
    this.maxSize = maxSize;
    this.size = maxSize;
  }

  get addresses(): QueueAddresses {
    const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = this.#areas;
    return { desc: a + b * WORD, driver: c + d * WORD, device: e + f * WORD };
  }

  /** @param word 0, 1: descriptor area low, high; 2, 3: driver area; 4, 5: device area */
  area(word: number): number {
    return this.#areas[word] ?? 0;
  }

  setArea(word: number, value: number): void {
    if (!this.isEnabled) this.#areas[word] = value;
  }

  /** Sizes that are none leave the register as it is. */
  setSize(size: number): void {
    if (this.isEnabled || size === 0 || size > this.maxSize || (size & (size - 1)) !== 0) return;
    this.size = size;
  }

  reset(): void {
    this.size = this.maxSize;
    this.isEnabled = false;
    this.queue = undefined;
    this.#areas.fill(0);
  }

  save(): QueueRegistersStateV1 {
    return {
      size: this.size,
      isEnabled: this.isEnabled,
      areas: Array.from(this.#areas),
      queue: this.queue?.isOpen === true ? this.queue.save() : null,
    };
  }

  /** Everything but the queue itself. */
  load(device: string, index: number, state: QueueRegistersStateV1): void {
    const { size } = state;
    if (size < 1 || size > this.maxSize || !Number.isInteger(size) || state.areas.length !== 6) {
      throw new RestoreError(device, `queue ${index}: size ${size}, expected at most ${this.maxSize}`);
    }
    this.reset();
    this.size = size;
    this.isEnabled = state.isEnabled;
    this.#areas.set(state.areas);
  }
}
