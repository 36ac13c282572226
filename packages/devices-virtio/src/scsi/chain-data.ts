import type { DescriptorChain } from "@northbridge/sdk/virtio";
import type { ScsiData } from "./logical-unit.ts";

/** The data of one command, behind the fixed parts of its request and its answer. Reused for every command. */
export class ChainData implements ScsiData {
  outLength = 0;
  inLength = 0;
  #chain: DescriptorChain | undefined;
  #outAt = 0;
  #inAt = 0;

  of(chain: DescriptorChain, outAt: number, inAt: number): this {
    this.#chain = chain;
    this.#outAt = outAt;
    this.#inAt = inAt;
    this.outLength = chain.readableBytes - outAt;
    this.inLength = chain.writableBytes - inAt;
    return this;
  }

  out(offset: number, length: number): Uint8Array[] {
    return this.#chain?.readable(this.#outAt + offset, length) ?? [];
  }

  in(offset: number, length: number): Uint8Array[] {
    return this.#chain?.writable(this.#inAt + offset, length) ?? [];
  }

  read(offset: number, into: Uint8Array): number {
    return this.#chain?.read(this.#outAt + offset, into) ?? 0;
  }
}
