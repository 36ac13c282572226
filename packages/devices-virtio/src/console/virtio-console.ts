import type { CharBackend, IoWidth } from "@northbridge/sdk";
import { serve, type VirtioDevice, type VirtioSession, virtioSpec } from "@northbridge/sdk/virtio";
import { Config, Feature, MAX_BYTES, RECEIVE_QUEUE, TRANSMIT_QUEUE } from "./spec.ts";

const QUEUE_SIZE = 64;

/**
 * Console device with one port (virtio 1.3 §5.3). What the guest has no buffers for stays with the back end.
 * Not modelled: more ports, the console's size.
 */
export class VirtioConsole implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.CONSOLE;
  readonly features: readonly number[] = [Feature.EMERG_WRITE];
  readonly queues: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #backend: CharBackend;
  readonly #counts = { bytesIn: 0, bytesOut: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;

  constructor(deps: { readonly backend: CharBackend }) {
    this.#backend = deps.backend;
    this.#backend.connect((bytes) => this.#receive(bytes));
  }

  writeConfig(offset: number, _width: IoWidth, value: number): void {
    if (offset === Config.EMERG_WR) this.#backend.write(value & 0xff); // works before there is a driver (§5.3.4)
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined) return;
    if (index === RECEIVE_QUEUE) {
      this.#backend.resume();
      return;
    }
    serve(queue, (chain) => {
      for (const view of chain.readable(0, Math.min(chain.readableBytes, MAX_BYTES))) {
        for (const byte of view) this.#backend.write(byte);
        this.#counts.bytesOut += view.length;
      }
      queue.push(chain, 0);
    });
    this.#backend.flush?.();
  }

  reset(): void {
    this.#session = undefined;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#backend.resume();
    this.notify(TRANSMIT_QUEUE);
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  save(): undefined {
    return undefined;
  }

  restore(): void {
    // Queues are all there is.
  }

  /** Puts input into the driver's buffers. Returns how much of it fitted. */
  #receive(bytes: Uint8Array): number {
    const queue = this.#session?.queue(RECEIVE_QUEUE);
    if (queue === undefined || this.#isPaused) return 0;
    let taken = 0;
    while (taken < bytes.length) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (queue.enableNotifications()) break; // the driver tells when it has buffers again
        continue;
      }
      const written = chain.write(0, bytes.subarray(taken));
      queue.push(chain, written);
      taken += written;
    }
    queue.flush();
    this.#counts.bytesIn += taken;
    return taken;
  }
}
