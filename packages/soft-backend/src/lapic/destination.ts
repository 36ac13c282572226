import { BROADCAST_XAPIC, BROADCAST_X2APIC } from "./spec.ts";

/** What an APIC is addressed by. */
export interface Address {
  readonly isX2apic: boolean;
  /** 8 bits, or 32 in x2APIC mode. */
  readonly physicalId: number;
  /** The logical and the destination format register. */
  readonly ldr: number;
  readonly dfr: number;
}

/** Whether a message for `destination` is for the APIC at `address` (SDM 3A §11.6.2, §11.12.10). */
export function isAddressed(
  { isX2apic, physicalId, ldr, dfr }: Address,
  destination: number,
  logical: boolean,
  fromX2apic: boolean,
): boolean {
  if (destination === BROADCAST_X2APIC || (!fromX2apic && destination === BROADCAST_XAPIC)) return true;
  if (!logical) return destination === physicalId;
  if (isX2apic) return destination >>> 16 === ldr >>> 16 && (destination & ldr & 0xffff) !== 0;
  const own = ldr >>> 24;
  if (dfr >>> 28 === 0xf) return (own & destination & 0xff) !== 0; // flat model
  return own >> 4 === (destination >> 4) % 16 && (own & destination & 0xf) !== 0;
}
