import { defineHostEnd, type HostEndKind, logLine } from "@northbridge/sdk";
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { openImage, type OpenImageOptions } from "../chain/open-image.ts";
import type { DiskImage } from "../disk-image.ts";
import { ManagedDisk } from "../graph/disk-jobs.ts";
import { NodeFile } from "../file/node-file.ts";
import { hostError, ImageError } from "../image-error.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";

/** `{ kind: qcow2, … }` in a config. */
export interface Qcow2EndOptions {
  /** The image. */
  readonly path: string;
  /**
   * What the image may stand on: nothing, images in its own directory (their format stated), which is the default, or
   * images in these directories too.
   */
  readonly backing?:
    | "refuse"
    | "beside"
    | { readonly allow: readonly { readonly path: string }[] }
    | undefined;
  /** An internal snapshot to read, by id or name. The device must be read-only. */
  readonly snapshot?: string | undefined;
  /** A file with the passphrase of an encrypted image, to the last byte. */
  readonly secret?: { readonly path: string } | undefined;
  /** Goes past the host's page cache, as QEMU's `cache.direct=on`. */
  readonly direct?: boolean | undefined;
  /** Bound of the cache of L2 tables: 16 MiB by default, which cover 128 GiB at clusters of 64 KiB. */
  readonly l2CacheMib?: number | undefined;
}

const path = v.pipe(v.string(), v.nonEmpty());

const options: v.GenericSchema<Qcow2EndOptions> = v.strictObject({
  path,
  backing: v.optional(
    v.union([v.picklist(["refuse", "beside"]), v.strictObject({ allow: v.array(v.strictObject({ path })) })]),
  ),
  snapshot: v.optional(v.string()),
  secret: v.optional(v.strictObject({ path })),
  direct: v.optional(v.boolean()),
  l2CacheMib: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(4096))),
});

/** `{ kind: qcow2, path: disk.qcow2 }`: a qcow2 image with what it stands on, locked as QEMU locks images. */
export const qcow2: HostEndKind<"block", Qcow2EndOptions, Qcow2EndOptions> = defineHostEnd({
  kind: "qcow2",
  of: "block",
  options,
  open: (options, { readOnly, device, log }) => {
    const shared = imageOptions(options);
    return new ManagedDisk(
      openTop(options, shared, { readOnly }),
      (path, more) => openImage(path, { ...shared, ...more }),
      ({ what, done, total }) => {
        const percent = Math.floor((100 * done) / Math.max(1, total));
        logLine(log, device, `the disk was closed and ${what} cancelled at ${percent} %`);
      },
    );
  },
  // For reading, and past the locks of a machine that has the image.
  tryOpen: (options, { readOnly }) => {
    if (!readOnly) NodeFile.open(options.path, { readOnly, sharing: "later" }).close();
    return openTop(options, imageOptions(options), { readOnly: true, forceShare: true });
  },
});

function imageOptions({ backing, secret, direct, l2CacheMib }: Qcow2EndOptions): OpenImageOptions {
  return {
    backing: backing === "refuse" ? "refuse" : "follow",
    allowedDirectories: typeof backing === "object" ? backing.allow.map((directory) => directory.path) : [],
    direct: direct ?? false,
    ...(secret === undefined ? {} : { passphrase: readSecret(secret.path) }),
    ...(l2CacheMib === undefined ? {} : { l2CacheBytes: l2CacheMib * 2 ** 20 }),
  };
}

/** The image itself, which a guest can use. Throws {@link ImageError}. */
function openTop(
  { path: file, snapshot }: Qcow2EndOptions,
  shared: OpenImageOptions,
  use: Pick<OpenImageOptions, "readOnly" | "forceShare">,
): DiskImage {
  const image = openImage(file, {
    ...shared,
    ...use,
    format: "qcow2",
    ...(snapshot === undefined ? {} : { snapshot }),
  });
  expectUnlocked(image);
  return image;
}

/** A guest would see nothing but errors. Throws {@link ImageError}, the chain closed. */
function expectUnlocked(top: DiskImage): void {
  for (let image: DiskImage | undefined = top; image !== undefined; image = image.backing) {
    if (!(image instanceof Qcow2Image) || !image.meta.isLocked) continue;
    top.closeNow();
    throw new ImageError(
      image.path,
      "request",
      "the image is encrypted: expected secret: { path }, found none",
    );
  }
}

function readSecret(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw hostError(path, "read the secret", error);
  }
}
