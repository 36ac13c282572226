/** Description header (ACPI 6.4 §5.2.6) and the checksums. */
export const HEADER_SIZE = 36;

const LENGTH = 4;
const REVISION = 8;
const CHECKSUM = 9;
const OEM_ID = 10;
const OEM_TABLE_ID = 16;
const OEM_REVISION = 24;
const CREATOR_ID = 28;
const CREATOR_REVISION = 32;

/** Six characters, as every table and the RSDP carry them. */
export const OEM = "NBRDGE";

/** A zeroed table of `length` bytes with its header. Fill it, then {@link seal} it. */
export function table(signature: string, revision: number, length: number): DataView {
  const data = new DataView(new ArrayBuffer(length));
  setText(data, 0, signature);
  data.setUint32(LENGTH, length, true);
  data.setUint8(REVISION, revision);
  setText(data, OEM_ID, OEM);
  setText(data, OEM_TABLE_ID, "NBMACHIN");
  data.setUint32(OEM_REVISION, 1, true);
  setText(data, CREATOR_ID, "NBRG");
  data.setUint32(CREATOR_REVISION, 1, true);
  return data;
}

/** Sets the checksum of a table that has a description header, and answers with its bytes. */
export function seal(data: DataView): Uint8Array {
  setChecksum(data, CHECKSUM, data.byteLength);
  return new Uint8Array(data.buffer);
}

/** Makes the first `length` bytes add up to 0 modulo 256. */
export function setChecksum(data: DataView, offset: number, length: number): void {
  data.setUint8(offset, 0);
  let sum = 0;
  for (let index = 0; index < length; index++) sum += data.getUint8(index);
  data.setUint8(offset, -sum & 0xff);
}

export function setText(data: DataView, offset: number, text: string): void {
  for (const [index, character] of Array.from(text).entries()) {
    data.setUint8(offset + index, character.charCodeAt(0));
  }
}
