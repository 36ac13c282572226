import { rmSync, statSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import {
  createQcow2,
  type ImageFormat,
  luksBytes,
  type MeasuredLayout,
  NodeFile,
  openImage,
  type Preallocation,
  Qcow2Image,
  RawImage,
  type Qcow2CreateOptions,
} from "@northbridge/storage-qcow2";
import { CommandFailed } from "../host.ts";
import { splitOptions } from "./key-values.ts";
import { findSecret } from "./secrets.ts";
import { parseCount, parseSize } from "./sizes.ts";

/** What `-o` and its fellows ask of a new image. */
export interface NewImage {
  readonly format: ImageFormat;
  readonly size: number | undefined;
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  readonly preallocation: Preallocation;
  readonly qcow2: Omit<Qcow2CreateOptions, "size" | "backingFile" | "backingFormat">;
}

const RAW_OPTIONS = {
  size: "size of the disk",
  preallocation: "off, falloc or full",
  nocow: "accepted and ignored",
};

/** What `-o` knows, and what each means. */
const KNOWN: Readonly<Record<ImageFormat, Readonly<Record<string, string>>>> = {
  raw: RAW_OPTIONS,
  qcow2: {
    ...RAW_OPTIONS,
    preallocation: "off, metadata, falloc or full",
    compat: "version of the format: 0.10 or 1.1",
    backing_file: "image to stand on",
    backing_fmt: "its format",
    cluster_size: "from 512 to 2M",
    lazy_refcounts: "on: a crash costs a check, and flushes are cheaper",
    refcount_bits: "width of a refcount: 1, 2, 4, 8, 16, 32 or 64",
    data_file: "file with the guest's data; a relative name is one beside the image",
    data_file_raw: "on: the data file is a raw image of the disk at any time",
    compression_type: "zlib or zstd",
    extended_l2: "on: clusters are allocated by 32nds",
    encryption: "the old encryption, which is refused",
    "encrypt.format": "luks",
    "encrypt.key-secret": "id of the --object secret with the passphrase",
    "encrypt.cipher-alg": "aes-128 or aes-256",
    "encrypt.cipher-mode": "xts or cbc",
    "encrypt.ivgen-alg": "plain, plain64 or essiv",
    "encrypt.ivgen-hash-alg": "hash of essiv",
    "encrypt.hash-alg": "hash of the passphrase",
    "encrypt.iter-time": "milliseconds that a try of a passphrase shall take",
  },
};

/** What `-o help` prints, or nothing where nobody asks for it. */
export function optionsHelp(format: ImageFormat, lists: readonly string[]): string | undefined {
  const asked = splitOptions(lists);
  if (!asked.has("help") && !asked.has("?")) return undefined;
  const lines = Object.entries(KNOWN[format]).map(([name, means]) => `  ${name.padEnd(24)}${means}\n`);
  return `options of ${format}:\n${lines.join("")}`;
}

export function parseNewImage(
  format: ImageFormat,
  lists: readonly string[],
  more: {
    readonly size?: number;
    readonly backingFile?: string;
    readonly backingFormat?: string;
    /** `--object` as often as it was given. */
    readonly objects?: readonly string[] | undefined;
  } = {},
): NewImage {
  const options = splitOptions(lists);
  for (const name of options.keys()) {
    if (!Object.hasOwn(KNOWN[format], name)) {
      throw new CommandFailed(1, `-o: '${name}' is no option of ${format}; -o help lists them`);
    }
  }
  const size = more.size ?? mapped(options.get("size"), (text) => parseSize(text, "-o size"));
  const compat = options.get("compat") ?? "1.1";
  if (!["0.10", "1.1", "v2", "v3"].includes(compat)) {
    throw new CommandFailed(1, `-o compat: expected 0.10 or 1.1, found '${compat}'`);
  }
  const compression = options.get("compression_type") ?? "zlib";
  if (compression !== "zlib" && compression !== "zstd") {
    throw new CommandFailed(1, `-o compression_type: expected zlib or zstd, found '${compression}'`);
  }
  const preallocation = parsePreallocation(options.get("preallocation") ?? "off", "-o preallocation");
  const dataFile = options.get("data_file");
  return {
    format,
    size,
    backingFile: more.backingFile ?? options.get("backing_file"),
    backingFormat: more.backingFormat ?? options.get("backing_fmt"),
    preallocation,
    qcow2: {
      version: compat === "0.10" || compat === "v2" ? 2 : 3,
      clusterSize: mapped(options.get("cluster_size"), (text) => parseSize(text, "-o cluster_size")) ?? 65536,
      refcountBits:
        mapped(options.get("refcount_bits"), (text) => parseCount(text, "-o refcount_bits")) ?? 16,
      lazyRefcounts: isOn(options, "lazy_refcounts"),
      extendedL2: isOn(options, "extended_l2"),
      compressionType: compression,
      ...(dataFile === undefined ? {} : { dataFile }),
      dataFileRaw: isOn(options, "data_file_raw"),
      ...encryptionOf(options, more.objects ?? []),
    },
  };
}

export function parsePreallocation(text: string, option: string): Preallocation {
  const modes: readonly Preallocation[] = ["off", "metadata", "falloc", "full"];
  const found = modes.find((mode) => mode === text);
  if (found === undefined)
    throw new CommandFailed(1, `${option}: expected ${modes.join(", ")}, found '${text}'`);
  return found;
}

/** `-o encrypt.…`. */
function encryptionOf(
  options: ReadonlyMap<string, string>,
  objects: readonly string[],
): Pick<Qcow2CreateOptions, "encryption"> {
  const format = options.get("encrypt.format");
  if (isOn(options, "encryption") || (format !== undefined && format !== "luks")) {
    throw new CommandFailed(1, `-o encrypt.format: expected luks, found '${format ?? "the old encryption"}'`);
  }
  if (format === undefined) {
    const stray = [...options.keys()].find((name) => name.startsWith("encrypt."));
    if (stray !== undefined) throw new CommandFailed(1, `-o ${stray}: expected encrypt.format=luks with it`);
    return {};
  }
  const secret = options.get("encrypt.key-secret");
  const passphrase = secret === undefined ? undefined : findSecret(objects, secret);
  if (passphrase === undefined) {
    throw new CommandFailed(1, "-o encrypt.key-secret: expected the id of an --object secret");
  }
  const oneOf = <const T extends string>(name: string, known: readonly T[], usual: NoInfer<T>): T => {
    const value = options.get(`encrypt.${name}`) ?? usual;
    const found = known.find((each) => each === value);
    if (found === undefined) {
      throw new CommandFailed(1, `-o encrypt.${name}: expected ${known.join(", ")}, found '${value}'`);
    }
    return found;
  };
  const hash = options.get("encrypt.hash-alg");
  const ivHash = options.get("encrypt.ivgen-hash-alg");
  const iterationMs = mapped(options.get("encrypt.iter-time"), (text) =>
    parseCount(text, "-o encrypt.iter-time"),
  );
  const bits = { "aes-128": 128, "aes-256": 256 } as const;
  return {
    encryption: {
      passphrase,
      cipherBits: bits[oneOf("cipher-alg", ["aes-128", "aes-256"], "aes-256")],
      cipherMode: oneOf("cipher-mode", ["xts", "cbc"], "xts"),
      ivGenerator: oneOf("ivgen-alg", ["plain64", "plain", "essiv"], "plain64"),
      ...(ivHash === undefined ? {} : { ivHash }),
      ...(hash === undefined ? {} : { hash }),
      ...(iterationMs === undefined ? {} : { iterationMs }),
    },
  };
}

export const layoutOf = ({ qcow2, preallocation }: NewImage): MeasuredLayout => ({
  clusterSize: qcow2.clusterSize ?? 65536,
  refcountBits: qcow2.refcountBits ?? 16,
  extendedL2: qcow2.extendedL2 ?? false,
  version: qcow2.version ?? 3,
  isPreallocated: preallocation === "full" || preallocation === "falloc",
  ...(qcow2.encryption === undefined ? {} : { luksBytes: luksBytes(qcow2.encryption) }),
});

/** Makes the file. A data file is made where there is none. */
export function makeImage(path: string, image: NewImage, size: number): void {
  if (image.preallocation !== "off" && image.backingFile !== undefined && image.qcow2.extendedL2 !== true) {
    throw new CommandFailed(
      1,
      `${path}: Backing file and preallocation can only be used at the same time if extended_l2 is on`,
    );
  }
  if (image.preallocation === "metadata" && image.format === "raw") {
    throw new CommandFailed(1, `${path}: Unsupported preallocation mode: metadata`);
  }
  const made: string[] = [];
  try {
    makeEmptyImage(path, image, size, made);
    if (image.preallocation !== "off") preallocate(path, image);
  } catch (error) {
    // Half an image is of no use, and may hold the room that the host has not got.
    for (const file of made) if (statSync(file).isFile()) rmSync(file, { force: true });
    throw error;
  }
}

function preallocate(path: string, image: NewImage): void {
  const { encryption } = image.qcow2;
  const made = openImage(path, {
    format: image.format,
    withoutBacking: true,
    ...(image.qcow2.dataFile === undefined
      ? {}
      : { allowedDirectories: [dirname(besideImage(path, image.qcow2.dataFile))] }),
    ...(encryption === undefined ? {} : { passphrase: encryption.passphrase }),
  });
  try {
    if (made instanceof Qcow2Image || made instanceof RawImage) made.preallocate(0, image.preallocation);
  } finally {
    made.closeNow();
  }
}

/** Where whoever opens the image will look for a file that it names. */
const besideImage = (path: string, name: string): string =>
  isAbsolute(name) ? name : join(dirname(path), name);

/** @param made gains the files that are ours to remove */
function makeEmptyImage(path: string, image: NewImage, size: number, made: string[]): void {
  const file = NodeFile.open(path, { create: true });
  made.push(path);
  try {
    if (image.format === "raw") {
      file.truncate(size);
      return;
    }
    const { dataFile } = image.qcow2;
    if (dataFile !== undefined) {
      const data = NodeFile.open(besideImage(path, dataFile), { create: true });
      made.push(besideImage(path, dataFile));
      try {
        data.truncate(size);
      } finally {
        data.close();
      }
    }
    createQcow2(file, {
      ...image.qcow2,
      size,
      ...(image.backingFile === undefined ? {} : { backingFile: image.backingFile }),
      ...(image.backingFormat === undefined ? {} : { backingFormat: image.backingFormat }),
    });
  } finally {
    file.close();
  }
}

/** The line that `qemu-img create` prints. */
export function formattingLine(path: string, image: NewImage, size: number): string {
  const preallocation = image.preallocation === "off" ? "" : ` preallocation=${image.preallocation}`;
  if (image.format === "raw") return `Formatting '${path}', fmt=raw size=${size}${preallocation}`;
  const onOff = (value: boolean | undefined): string => (value === true ? "on" : "off");
  const { qcow2 } = image;
  const parts = [`Formatting '${path}', fmt=qcow2`];
  parts.push(
    `cluster_size=${qcow2.clusterSize ?? 65536}`,
    `extended_l2=${onOff(qcow2.extendedL2)}${preallocation}`,
  );
  parts.push(`compression_type=${qcow2.compressionType ?? "zlib"}`, `size=${size}`);
  if (qcow2.version === 2) parts.splice(1, 0, "compat=0.10");
  if (image.backingFile !== undefined) parts.push(`backing_file=${image.backingFile}`);
  if (image.backingFormat !== undefined) parts.push(`backing_fmt=${image.backingFormat}`);
  if (qcow2.dataFile !== undefined) parts.push(`data_file=${qcow2.dataFile}`);
  parts.push(`lazy_refcounts=${onOff(qcow2.lazyRefcounts)}`, `refcount_bits=${qcow2.refcountBits ?? 16}`);
  return parts.join(" ");
}

/** Size of the image that a new one is to stand on. The command line named it, so it may lie anywhere. */
export function sizeOfBacking(
  path: string,
  format: ImageFormat,
  allowedDirectories: readonly string[],
): number {
  const image = openImage(path, { format, readOnly: true, allowedDirectories });
  const { size } = image;
  image.closeNow();
  return size;
}

const mapped = <T>(text: string | undefined, parse: (text: string) => T): T | undefined =>
  text === undefined ? undefined : parse(text);

function isOn(options: ReadonlyMap<string, string>, name: string): boolean {
  const value = options.get(name) ?? "off";
  if (!["on", "off", "yes", "no", "true", "false"].includes(value)) {
    throw new CommandFailed(1, `-o ${name}: expected on or off, found '${value}'`);
  }
  return ["on", "yes", "true"].includes(value);
}
