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

/**
 * The files that a guest boots from. It boots from the same again, wherever it has moved meanwhile: one that has changed
 * since is refused, for a kernel and an initrd that are not of one kind do not say so themselves.
 */
export class BootImages implements Snapshottable<readonly BootImage[]> {
  readonly #options: readonly (readonly [name: string, path: string | undefined])[];
  #booted = new Map<string, BootImage>();
  readonly #read = new Map<string, BootImage>();

  constructor({ kernel, initrd, flat }: BootConfig = {}) {
    this.#options = Object.entries({ kernel, initrd, "flat.image": flat?.image });
  }

  /** Throws `NB_BOOT_IMAGE`. */
  readonly read = async (path: string): Promise<Uint8Array> => {
    const bytes = await readImage(path);
    const name = this.#options.find(([, known]) => known === path)?.[0] ?? path;
    const found: BootImage = { name, bytes: bytes.length, crc32: crc32(bytes) };
    const expected = this.#booted.get(name) ?? found;
    if (expected.bytes !== found.bytes || expected.crc32 !== found.crc32) {
      throw new NorthbridgeError(
        "NB_BOOT_IMAGE",
        `${path}: expected the image that this guest has booted from before, ${describe(expected)}, found ${describe(found)}`,
      );
    }
    this.#read.set(name, found);
    return bytes;
  };

  /** What has been read since is what the guest has booted from. */
  booted(): void {
    for (const image of this.#read.values()) this.#booted.set(image.name, image);
  }

  /** In an order of its own: which of two files comes first is the host's affair. */
  save(): readonly BootImage[] {
    return [...this.#booted.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  restore(images: readonly BootImage[]): void {
    this.#booted = new Map(images.map((image) => [image.name, image]));
  }
}

const describe = ({ bytes, crc32 }: BootImage): string =>
  `${bytes} bytes of CRC-32 ${crc32.toString(16).padStart(8, "0")}`;
