import * as L from "./layout.ts";

const FXSAVE_BYTES = 512;
/** All MXCSR bits of SSE2 with DAZ may be set. */
const MXCSR_MASK = 0xffff;

/** The 512-byte FXSAVE64 image (SDM 1 §10.5.1) of the state block at `state`. */
export function readFxsave(view: DataView, state: number): Uint8Array {
  const at = (field: number): number => state + field - L.STATE;
  const image = new Uint8Array(FXSAVE_BYTES);
  const out = new DataView(image.buffer);
  const fsw = view.getUint16(at(L.FSW), true);
  out.setUint16(0, view.getUint16(at(L.FCW), true), true);
  out.setUint16(2, fsw, true);
  out.setUint8(4, view.getUint8(at(L.FTAG)));
  out.setUint16(6, view.getUint16(at(L.FOP), true), true);
  out.setBigUint64(8, view.getBigUint64(at(L.FIP), true), true);
  out.setBigUint64(16, view.getBigUint64(at(L.FDP), true), true);
  out.setUint32(24, view.getUint32(at(L.MXCSR), true), true);
  out.setUint32(28, MXCSR_MASK, true);
  const top = (fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const register = at(L.FPR) + ((top + i) & 7) * 16;
    out.setBigUint64(32 + i * 16, view.getBigUint64(register, true), true);
    out.setUint16(40 + i * 16, view.getUint16(register + 8, true), true);
  }
  for (let i = 0; i < 32; i++)
    out.setBigUint64(160 + i * 8, view.getBigUint64(at(L.XMM) + i * 8, true), true);
  return image;
}

/** Loads an image of `readFxsave`, or of KVM. */
export function writeFxsave(view: DataView, state: number, image: Uint8Array): void {
  const at = (field: number): number => state + field - L.STATE;
  const input = new DataView(image.buffer, image.byteOffset, FXSAVE_BYTES);
  const fsw = input.getUint16(2, true);
  view.setUint16(at(L.FCW), input.getUint16(0, true), true);
  view.setUint16(at(L.FSW), fsw, true);
  view.setUint8(at(L.FTAG), input.getUint8(4));
  view.setUint16(at(L.FOP), input.getUint16(6, true), true);
  view.setBigUint64(at(L.FIP), input.getBigUint64(8, true), true);
  view.setBigUint64(at(L.FDP), input.getBigUint64(16, true), true);
  view.setUint32(at(L.MXCSR), input.getUint32(24, true) & MXCSR_MASK, true);
  const top = (fsw >> 11) & 7;
  for (let i = 0; i < 8; i++) {
    const register = at(L.FPR) + ((top + i) & 7) * 16;
    view.setBigUint64(register, input.getBigUint64(32 + i * 16, true), true);
    view.setBigUint64(register + 8, BigInt(input.getUint16(40 + i * 16, true)), true);
  }
  for (let i = 0; i < 32; i++)
    view.setBigUint64(at(L.XMM) + i * 8, input.getBigUint64(160 + i * 8, true), true);
}
