const SECTOR = 2048;
const [VOLUME, TERMINATOR, PATH_TABLE_L, PATH_TABLE_M, ROOT, DATA] = [16, 17, 18, 19, 20, 21];

/** A CD image with one file in its root (ECMA-119). The name is as the standard writes it: `HELLO.TXT;1`. */
export function isoImage(name: string, content: Uint8Array): Uint8Array {
  const image = new Uint8Array((DATA + Math.ceil(content.length / SECTOR)) * SECTOR);
  const view = new DataView(image.buffer);
  const text = (at: number, length: number, value: string): void => {
    for (let i = 0; i < length; i++) image[at + i] = i < value.length ? value.charCodeAt(i) : 0x20;
  };
  const both16 = (at: number, value: number): void => {
    view.setUint16(at, value, true);
    view.setUint16(at + 2, value, false);
  };
  const both32 = (at: number, value: number): void => {
    view.setUint32(at, value, true);
    view.setUint32(at + 4, value, false);
  };
  /** §9.1. Returns where the next one begins. */
  const record = (at: number, id: string, sector: number, length: number, flags: number): number => {
    const size = 33 + id.length + (id.length % 2 === 0 ? 1 : 0);
    image[at] = size;
    both32(at + 2, sector);
    both32(at + 10, length);
    image.set([125, 1, 1, 0, 0, 0, 0], at + 18);
    image[at + 25] = flags;
    both16(at + 28, 1);
    image[at + 32] = id.length;
    for (let i = 0; i < id.length; i++) image[at + 33 + i] = id.charCodeAt(i);
    return at + size;
  };
  const volume = VOLUME * SECTOR;
  image[volume] = 1;
  text(volume + 1, 5, "CD001");
  image[volume + 6] = 1;
  text(volume + 8, 64, "");
  text(volume + 40, 32, "NORTHBRIDGE");
  both32(volume + 80, image.length / SECTOR);
  both16(volume + 120, 1);
  both16(volume + 124, 1);
  both16(volume + 128, SECTOR);
  both32(volume + 132, 10);
  view.setUint32(volume + 140, PATH_TABLE_L, true);
  view.setUint32(volume + 148, PATH_TABLE_M, false);
  record(volume + 156, "\0", ROOT, SECTOR, 2);
  text(volume + 190, 623, "");
  image[volume + 881] = 1;
  image[TERMINATOR * SECTOR] = 255;
  text(TERMINATOR * SECTOR + 1, 5, "CD001");
  image[TERMINATOR * SECTOR + 6] = 1;
  image.set([1, 0, ROOT, 0, 0, 0, 1, 0, 0, 0], PATH_TABLE_L * SECTOR);
  image.set([1, 0, 0, 0, 0, ROOT, 0, 1, 0, 0], PATH_TABLE_M * SECTOR);
  let at = record(ROOT * SECTOR, "\0", ROOT, SECTOR, 2);
  at = record(at, "\x01", ROOT, SECTOR, 2);
  record(at, name, DATA, content.length, 0);
  image.set(content, DATA * SECTOR);
  return image;
}
