import { readOffset, writeOffset } from "./header.ts";

/** The greatest count that `bits` hold and a number can say. */
export const maxRefcount = (bits: number): number => (bits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** bits - 1);

/** One count in the bytes of a refcount block (docs/interop/qcow2: Host cluster management). */
export function readRefcount(view: DataView, bits: number, index: number): number {
  switch (bits) {
    case 8:
      return view.getUint8(index);
    case 16:
      return view.getUint16(index * 2);
    case 32:
      return view.getUint32(index * 4);
    case 64:
      return readOffset(view, index * 8);
    default: {
      const bit = index * bits;
      return (view.getUint8(bit >>> 3) >>> (bit & 7)) & (2 ** bits - 1);
    }
  }
}

/** Sets one count in the bytes of a block. */
export function putRefcount(view: DataView, bits: number, index: number, value: number): void {
  switch (bits) {
    case 8:
      view.setUint8(index, value);
      return;
    case 16:
      view.setUint16(index * 2, value);
      return;
    case 32:
      view.setUint32(index * 4, value);
      return;
    case 64:
      writeOffset(view, index * 8, value);
      return;
    default: {
      const at = (index * bits) >>> 3;
      const shift = (index * bits) & 7;
      const mask = (2 ** bits - 1) << shift;
      view.setUint8(at, (view.getUint8(at) & ~mask) | (value << shift));
    }
  }
}
