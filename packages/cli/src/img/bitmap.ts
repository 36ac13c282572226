import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, asQcow2, openAs, parseFormat, usingImage, withAccess } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

interface BitmapOptions extends AccessOptions {
  readonly g?: string;
  readonly b?: string;
  readonly F?: string;
}

interface Action {
  readonly kind: "add" | "remove" | "clear" | "enable" | "disable" | "merge";
  readonly source: string;
}

const SIMPLE = ["add", "remove", "clear", "enable", "disable"] as const;

export const registerBitmap: RegisterCommand = (img) => {
  const actions: Action[] = [];
  const command = withAccess(img.command("bitmap"), { quiet: false })
    .description("change persistent dirty bitmaps; actions happen in the order in which they are given")
    .argument("<FILE>")
    .argument("<BITMAP>")
    .option("-g <BYTES>", "granularity of a bitmap to add", undefined)
    .option("-b <FILE>", "the image that has the bitmaps to merge")
    .option("-F <FMT>", "its format")
    .option("--merge <SOURCE>", "add the bits of this bitmap", (source: string) => {
      actions.push({ kind: "merge", source });
      return source;
    });
  for (const kind of SIMPLE) {
    command.option(`--${kind}`, `${kind} the bitmap`);
    command.on(`option:${kind}`, () => {
      actions.push({ kind, source: "" });
    });
  }
  command.action((path: string, name: string, options: BitmapOptions) => {
    if (actions.length === 0) {
      throw new CommandFailed(
        1,
        "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge",
      );
    }
    if (options.g !== undefined && !actions.some(({ kind }) => kind === "add")) {
      throw new CommandFailed(1, "granularity only supported with --add");
    }
    if (options.b !== undefined && !actions.some(({ kind }) => kind === "merge")) {
      throw new CommandFailed(1, "alternate source file only supported with --merge");
    }
    return usingImage(path, options, { withoutBacking: true }, (opened) => {
      const image = asQcow2(opened, "a bitmap");
      for (const { kind, source } of actions) {
        if (kind === "add") {
          const granularity =
            options.g === undefined ? defaultGranularity(image.meta.clusterSize) : parseSize(options.g, "-g");
          image.bitmaps.add(name, granularity);
        } else if (kind === "remove") image.bitmaps.remove(name);
        else if (kind === "clear") image.bitmaps.clear(name);
        else if (kind === "merge") merge(source, options, name, image);
        else image.bitmaps.setEnabled(name, kind === "enable");
      }
    });
  });

  function merge(
    source: string,
    options: BitmapOptions,
    name: string,
    image: ReturnType<typeof asQcow2>,
  ): void {
    if (options.b === undefined) {
      image.bitmaps.merge(name, image.bitmaps.get(source));
      return;
    }
    const format = parseFormat(options.F, "-F");
    const { f: _, ...shared } = options;
    const other = openAs(options.b, shared, {
      readOnly: true,
      withoutBacking: true,
      ...(format === undefined ? {} : { format }),
    });
    try {
      image.bitmaps.merge(name, asQcow2(other, "a bitmap").bitmaps.get(source));
    } finally {
      other.closeNow();
    }
  }
};

/** QEMU's: the cluster size, within 4 and 64 KiB. */
const defaultGranularity = (clusterSize: number): number => Math.min(65536, Math.max(4096, clusterSize));
