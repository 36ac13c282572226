import type { DescriptorChain, VirtQueue } from "@northbridge/sdk/virtio";
import { Header } from "./spec.ts";

/** How putting a frame into a receive queue ended. */
export type Delivery = "delivered" | "noBuffers" | "tooSmall";

/** Puts frames into the buffers of receive queues, one frame into several where the driver allows it. */
export class Receiver {
  /** Header of the frame that comes next; `num_buffers` is filled in here. */
  readonly header: Uint8Array = new Uint8Array(Header.LENGTH);
  /** As much of it as the driver takes. */
  #sent: Uint8Array = this.header;
  /** Chains one frame is going to fill. */
  readonly #taken: DescriptorChain[] = [];

  set headerLength(length: number) {
    this.#sent = this.header.subarray(0, length);
  }

  /** @param mayMerge one frame may take several buffers (MRG_RXBUF) */
  deliver(queue: VirtQueue, frame: Uint8Array, mayMerge: boolean): Delivery {
    const taken = this.#taken;
    taken.length = 0;
    const headerLength = this.#sent.length;
    const needed = headerLength + frame.length;
    for (let room = 0; room < needed; ) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (!queue.enableNotifications()) continue; // one came in meanwhile
        for (let last = taken.pop(); last !== undefined; last = taken.pop()) queue.unpop(last);
        return "noBuffers";
      }
      taken.push(chain);
      room += chain.writableBytes;
      if ((!mayMerge && room < needed) || chain.writableBytes < headerLength) {
        // Too small for what the driver promised (§5.1.6.3.1): the frame is lost, the buffers go back empty.
        for (const small of taken) queue.push(small, 0);
        queue.flush();
        return "tooSmall";
      }
    }
    this.header[Header.NUM_BUFFERS] = taken.length & 0xff;
    this.header[Header.NUM_BUFFERS + 1] = taken.length >> 8;
    let sent = 0;
    for (let index = 0; index < taken.length; index++) {
      const chain = taken[index];
      if (chain === undefined) break;
      const at = index === 0 ? chain.write(0, this.#sent) : 0;
      const written = chain.write(at, sent === 0 ? frame : frame.subarray(sent));
      sent += written;
      queue.push(chain, at + written);
    }
    queue.flush();
    return "delivered";
  }
}
