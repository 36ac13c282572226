import { crc32 } from "node:zlib";
import { type BootConfig, NorthbridgeError, type Snapshottable } from "../contracts/index.ts";
import { readImage } from "./read-image.ts";

/** What is known of an image that a guest has booted from. */
export interface BootImage {
  /** The option of `boot` that names it: `kernel`. */
  readonly name: string;
  readonly bytes: number;
  readonly crc32: number;
}

/** An image with what it holds. */
interface ReadImage extends BootImage {
  readonly content: Uint8Array;
}

/** Contents that a machine of this process holds on to, by size and CRC-32: machines of one kernel have it once. */
const contents = new Map<string, WeakRef<Uint8Array>>();
const forgotten = new FinalizationRegistry<string>((key) => {
  if (contents.get(key)?.deref() === undefined) contents.delete(key);
});

/**
 * The files that a guest boots from. They are read once: a guest boots again from the same bytes, whatever has become of
 * the files. A snapshot has their digests only: after a restore they are read anew, and one that has changed since is
 * refused, for a kernel and an initrd that are not of one kind do not say so themselves.
 */
export class BootImages implements Snapshottable<readonly BootImage[]> {
  readonly #options: readonly (readonly [name: string, path: string | undefined])[];
  #booted = new Map<string, BootImage | ReadImage>();
  readonly #read = new Map<string, ReadImage>();

  constructor({ kernel, initrd, flat }: BootConfig = {}) {
    this.#options = Object.entries({ kernel, initrd, "flat.image": flat?.image });
  }

  /** Throws `NB_BOOT_IMAGE`. */
  readonly read = async (path: string): Promise<Uint8Array> => {
    const name = this.#options.find(([, known]) => known === path)?.[0] ?? path;
    const expected = this.#booted.get(name);
    if (expected !== undefined && "content" in expected) return expected.content;
    const content = await readImage(path);
    const found = { name, bytes: content.length, crc32: crc32(content) };
    if (expected !== undefined && !isSame(expected, found)) {
      throw new NorthbridgeError(
        "NB_BOOT_IMAGE",
        `${path}: expected the image that this guest has booted from before, ${describe(expected)}, found ${describe(found)}`,
      );
    }
    const image = { ...found, content: shared(content, found) };
    this.#read.set(name, image);
    return image.content;
  };

  /** What has been read since is what the guest has booted from. */
  booted(): void {
    for (const image of this.#read.values()) this.#booted.set(image.name, image);
    this.#read.clear();
  }

  /** In an order of its own: which of two files comes first is the host's affair. */
  save(): readonly BootImage[] {
    return [...this.#booted.values()]
      .map(({ name, bytes, crc32 }) => ({ name, bytes, crc32 }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  restore(images: readonly BootImage[]): void {
    this.#booted = new Map(images.map((image) => [image.name, image]));
  }
}

const isSame = (one: BootImage, other: BootImage): boolean =>
  one.bytes === other.bytes && one.crc32 === other.crc32;

const describe = ({ bytes, crc32 }: BootImage): string =>
  `${bytes} bytes of CRC-32 ${crc32.toString(16).padStart(8, "0")}`;

/** The same content, as another machine has it where one does. */
function shared(content: Uint8Array, { bytes, crc32 }: BootImage): Uint8Array {
  const key = `${bytes} ${crc32}`;
  const known = contents.get(key)?.deref();
  if (known !== undefined) return Buffer.compare(known, content) === 0 ? known : content;
  contents.set(key, new WeakRef(content));
  forgotten.register(content, key);
  return content;
}
