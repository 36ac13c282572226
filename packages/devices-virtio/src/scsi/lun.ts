import type { DescriptorChain } from "@northbridge/sdk/virtio";

/** The target of an address of 8 bytes (virtio 1.3 §5.6.6.1), or undefined where it names none. */
export function targetOf(chain: DescriptorChain, at: number): number | undefined {
  return chain.readU8(at) === 1 ? chain.readU8(at + 1) : undefined;
}

/** The logical unit of the target: a single-level address, peripheral or flat (SAM-5 §4.7). */
export const lunOf = (chain: DescriptorChain, at: number): number =>
  ((chain.readU8(at + 2) & 0x3f) << 8) | chain.readU8(at + 3);

/** The address of unit 0 of a target. */
export const addressOf = (target: number): readonly number[] => [1, target, 0x40, 0, 0, 0, 0, 0];
