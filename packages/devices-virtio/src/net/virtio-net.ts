import type { NetBackend } from "@northbridge/sdk";
import {
  type DescriptorChain,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { Config, Feature, Header, LinkStatus, MAX_FRAME, RECEIVE_QUEUE, TRANSMIT_QUEUE } from "./spec.ts";

const QUEUE_SIZE = 256;

/**
 * Network device (virtio 1.3 §5.1). A received frame that finds no buffer stays with the back end; a frame for which
 * the back end has no room stays in the transmit queue. Not modelled: offloads, the control queue, multiqueue.
 */
export class VirtioNet implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.NET;
  readonly features: readonly number[] = [Feature.MTU, Feature.MAC, Feature.MRG_RXBUF, Feature.STATUS];
  readonly queues: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #backend: NetBackend;
  readonly #view: DataView;
  readonly #counts = { framesIn: 0, framesOut: 0, bytesIn: 0, bytesOut: 0, dropped: 0 };
  readonly #header: Uint8Array = new Uint8Array(Header.LENGTH);
  /** Chains one received frame is going to fill. */
  readonly #taken: DescriptorChain[] = [];
  #session: VirtioSession | undefined;
  #isPaused = false;

  constructor(deps: { readonly backend: NetBackend; readonly mac: Uint8Array }) {
    this.#backend = deps.backend;
    this.#view = new DataView(this.config.buffer);
    this.config.set(deps.mac, Config.MAC);
    this.#view.setUint16(Config.STATUS, LinkStatus.LINK_UP, true);
    this.#view.setUint16(Config.MAX_VIRTQUEUE_PAIRS, 1, true);
    this.#view.setUint16(Config.MTU, this.#backend.mtu, true);
    this.#backend.connect(
      (frame) => this.#receive(frame),
      () => {
        this.#transmit();
      },
    );
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    if (index === RECEIVE_QUEUE) this.#backend.resume();
    else this.#transmit();
  }

  /** Plugs or pulls the cable. */
  setLink(isUp: boolean): void {
    this.#view.setUint16(Config.STATUS, isUp ? LinkStatus.LINK_UP : 0, true);
    this.#session?.configChanged();
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
    this.#transmit();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  save(): undefined {
    return undefined;
  }

  restore(): void {
    // The link's state is in the configuration space, the rest in the queues.
  }

  #transmit(): void {
    const queue = this.#session?.queue(TRANSMIT_QUEUE);
    if (queue === undefined || this.#isPaused) return;
    do {
      queue.disableNotifications();
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        const length = chain.readableBytes - Header.LENGTH;
        if (length <= 0 || length > MAX_FRAME) {
          this.#counts.dropped++;
        } else if (this.#backend.send(chain.readable(Header.LENGTH, length))) {
          this.#counts.framesOut++;
          this.#counts.bytesOut += length;
        } else {
          queue.unpop(chain);
          queue.flush();
          return; // the back end says when it has room
        }
        queue.push(chain, 0);
      }
    } while (!queue.enableNotifications());
    queue.flush();
  }

  /** Puts a frame into the driver's buffers. False where there are not enough of them. */
  #receive(frame: Uint8Array): boolean {
    const queue = this.#session?.queue(RECEIVE_QUEUE);
    if (queue === undefined || this.#isPaused) return false;
    const needed = Header.LENGTH + frame.length;
    const mayMerge = this.#session?.features.has(Feature.MRG_RXBUF) === true;
    const taken = this.#taken;
    taken.length = 0;
    for (let room = 0; room < needed; ) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (!queue.enableNotifications()) continue; // one came in meanwhile
        while (taken.length > 0) {
          const last = taken.pop();
          if (last !== undefined) queue.unpop(last);
        }
        return false;
      }
      taken.push(chain);
      room += chain.writableBytes;
      if ((!mayMerge && room < needed) || chain.writableBytes < Header.LENGTH) {
        // Too small for what the driver promised (§5.1.6.3.1): the frame is lost, the buffers go back empty.
        for (const small of taken) queue.push(small, 0);
        queue.flush();
        this.#counts.dropped++;
        return true;
      }
    }
    this.#header[Header.NUM_BUFFERS] = taken.length & 0xff;
    this.#header[Header.NUM_BUFFERS + 1] = taken.length >> 8;
    let sent = 0;
    taken.forEach((chain, index) => {
      const at = index === 0 ? chain.write(0, this.#header) : 0;
      const written = scatter(chain, at, frame, sent);
      sent += written;
      queue.push(chain, at + written);
    });
    this.#counts.framesIn++;
    this.#counts.bytesIn += frame.length;
    queue.flush();
    return true;
  }
}

/** Copies of `frame` behind its first `from` bytes what fits behind the first `at` bytes of the chain. */
function scatter(chain: DescriptorChain, at: number, frame: Uint8Array, from: number): number {
  return chain.write(at, from === 0 ? frame : frame.subarray(from));
}
