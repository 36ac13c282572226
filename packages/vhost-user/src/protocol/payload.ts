import { FeatureSet } from "@northbridge/sdk/virtio";

const WORD = 2 ** 32;

/** A 64-bit number; undefined from 2^53, where no address or size of this world is. */
export function u64(payload: DataView, offset: number): number | undefined {
  const value = payload.getUint32(offset, true) + payload.getUint32(offset + 4, true) * WORD;
  return Number.isSafeInteger(value) ? value : undefined;
}

export function setU64(payload: DataView, offset: number, value: number): void {
  payload.setUint32(offset, value % WORD, true);
  payload.setUint32(offset + 4, Math.floor(value / WORD), true);
}

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

export const featuresIn = (payload: DataView): FeatureSet =>
  new FeatureSet(payload.getUint32(0, true), payload.getUint32(4, true));

/** A payload of one 64-bit number. */
export function u64Payload(value: number | FeatureSet): Uint8Array {
  const bytes = new Uint8Array(8);
  const payload = viewOf(bytes);
  if (typeof value === "number") {
    setU64(payload, 0, value);
  } else {
    payload.setUint32(0, value.low, true);
    payload.setUint32(4, value.high, true);
  }
  return bytes;
}

/** A vring state description: index, number. */
export function statePayload(index: number, num: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const payload = viewOf(bytes);
  payload.setUint32(0, index, true);
  payload.setUint32(4, num, true);
  return bytes;
}
