import { dirname, isAbsolute, join } from "node:path";
import {
  type DiskImage,
  type ImageFormat,
  type LuksHeader,
  Qcow2Image,
  RawImage,
  type SnapshotEntry,
} from "@northbridge/storage-qcow2";
import type { RegisterCommand } from "../commands/register-command.ts";
import { type AccessOptions, openAs, withAccess, outputOption } from "./image-access.ts";
import { humanSize } from "./sizes.ts";
import { snapshotLines } from "./snapshot-lines.ts";

type Json = Record<string, unknown>;

interface InfoOptions extends AccessOptions {
  readonly output: string;
  readonly backingChain?: boolean;
}

export const registerInfo: RegisterCommand = (img, host) => {
  withAccess(img.command("info"), { quiet: false })
    .description("say what an image is")
    .argument("<FILE>")
    .addOption(outputOption())
    .option("--backing-chain", "and the images it stands on")
    .action((file: string, options: InfoOptions) => {
      const infos: { readonly info: ImageInfo; readonly image: DiskImage }[] = [];
      if (options.backingChain === true) {
        const top = openAs(file, options, { readOnly: true });
        for (let image: DiskImage | undefined = top; image !== undefined; image = image.backing) {
          infos.push({ info: describe(image), image });
        }
        top.closeNow();
      } else {
        const image = openAs(file, options, { readOnly: true, withoutBacking: true });
        infos.push({ info: describe(image), image });
        image.closeNow();
      }
      if (options.output === "json") {
        const json = infos.map(({ info }) => toJson(info));
        host.stdout.write(
          `${JSON.stringify(options.backingChain === true ? json : json[0], undefined, 4)}\n`,
        );
      } else host.stdout.write(infos.map(({ info }) => toText(info)).join("\n"));
    });
};

interface ImageInfo {
  readonly path: string;
  readonly format: ImageFormat;
  readonly size: number;
  readonly allocated: number | undefined;
  readonly qcow2:
    | undefined
    | {
        readonly clusterSize: number;
        readonly backingFile: string | undefined;
        readonly backingFormat: string | undefined;
        readonly isDirty: boolean;
        readonly isEncrypted: boolean;
        readonly snapshots: readonly SnapshotEntry[];
        readonly specific: Json;
      };
}

function describe(image: DiskImage): ImageInfo {
  const allocated = image instanceof Qcow2Image || image instanceof RawImage ? image.allocated() : undefined;
  const common = { path: image.path, format: image.format, size: image.size, allocated };
  if (!(image instanceof Qcow2Image)) return { ...common, qcow2: undefined };
  const about = image.describe();
  const specific: Json = {
    compat: about.version === 3 ? "1.1" : "0.10",
    "compression-type": about.compressionType,
  };
  if (about.version === 3) specific["lazy-refcounts"] = about.lazyRefcounts;
  if (image.bitmaps.list().length > 0) {
    specific["bitmaps"] = image.bitmaps.list().map(({ name, granularity, isEnabled, isInconsistent }) => ({
      flags: [...(isInconsistent ? ["in-use"] : []), ...(isEnabled ? ["auto"] : [])],
      name,
      granularity,
    }));
  }
  specific["refcount-bits"] = about.refcountBits;
  if (about.encryption !== undefined) specific["encrypt"] = encryptionJson(about.encryption);
  if (about.version === 3) specific["corrupt"] = about.isCorrupt;
  if (about.dataFile !== undefined) specific["data-file"] = about.dataFile;
  if (about.dataFile !== undefined) specific["data-file-raw"] = about.dataFileRaw;
  if (about.version === 3) specific["extended-l2"] = about.extendedL2;
  return {
    ...common,
    qcow2: {
      clusterSize: about.clusterSize,
      backingFile: about.backingFile,
      backingFormat: about.backingFormat,
      isDirty: about.isDirty,
      isEncrypted: about.encryption !== undefined,
      snapshots: image.snapshots(),
      specific,
    },
  };
}

function encryptionJson(luks: LuksHeader): Json {
  const [mode = "", generator = "", hash] = luks.cipherMode.split(/[-:]/);
  const bits = (luks.keyBytes * 8) / (mode === "xts" ? 2 : 1);
  return {
    "ivgen-alg": generator,
    ...(hash === undefined ? {} : { "ivgen-hash-alg": hash }),
    "hash-alg": luks.hash,
    "cipher-alg": `${luks.cipherName}-${bits}`,
    uuid: luks.uuid,
    format: "luks",
    "cipher-mode": mode,
    slots: luks.slots.map(({ isActive, iterations, keyOffset, stripes }) => ({
      active: isActive,
      ...(isActive ? { iters: iterations } : {}),
      "key-offset": keyOffset,
      ...(isActive ? { stripes } : {}),
    })),
    "payload-offset": luks.payloadOffset,
    "master-key-iters": luks.digestIterations,
  };
}

const fullBacking = (path: string, backing: string): string =>
  isAbsolute(backing) || /^[a-z][a-z0-9+.-]*:/i.test(backing) || dirname(path) === "."
    ? backing
    : join(dirname(path), backing);

function toJson(info: ImageInfo): Json {
  const json: Json = { "virtual-size": info.size, filename: info.path, format: info.format };
  if (info.allocated !== undefined) json["actual-size"] = info.allocated;
  if (info.qcow2?.isEncrypted === true) json["encrypted"] = true;
  json["dirty-flag"] = info.qcow2?.isDirty ?? false;
  if (info.qcow2 === undefined) return json;
  const { clusterSize, backingFile, backingFormat, snapshots, specific } = info.qcow2;
  json["cluster-size"] = clusterSize;
  if (backingFile !== undefined) {
    json["backing-filename"] = backingFile;
    json["full-backing-filename"] = fullBacking(info.path, backingFile);
    if (backingFormat !== undefined) json["backing-filename-format"] = backingFormat;
  }
  if (snapshots.length > 0) json["snapshots"] = snapshots.map(snapshotJson);
  json["format-specific"] = { type: "qcow2", data: specific };
  return json;
}

const snapshotJson = (entry: SnapshotEntry): Json => ({
  ...(entry.icount === undefined || entry.icount === 0xffffffffffffffffn
    ? {}
    : { icount: Number(entry.icount) }),
  "vm-clock-nsec": Number(entry.vmClockNsec % 1000000000n),
  name: entry.name,
  "date-sec": entry.dateSec,
  "date-nsec": entry.dateNsec,
  "vm-clock-sec": Number(entry.vmClockNsec / 1000000000n),
  id: entry.id,
  "vm-state-size": entry.vmStateSize,
});

function toText(info: ImageInfo): string {
  const lines = [`image: ${info.path}`, `file format: ${info.format}`];
  lines.push(`virtual size: ${humanSize(info.size)} (${info.size} bytes)`);
  lines.push(`disk size: ${info.allocated === undefined ? "unavailable" : humanSize(info.allocated)}`);
  const { qcow2 } = info;
  if (qcow2 !== undefined) {
    if (qcow2.isEncrypted) lines.push("encrypted: yes");
    if (qcow2.isDirty) lines.push("cleanly shut down: no");
    lines.push(`cluster_size: ${qcow2.clusterSize}`);
    if (qcow2.backingFile !== undefined) {
      const full = fullBacking(info.path, qcow2.backingFile);
      lines.push(
        `backing file: ${qcow2.backingFile}${full === qcow2.backingFile ? "" : ` (actual path: ${full})`}`,
      );
      if (qcow2.backingFormat !== undefined) lines.push(`backing file format: ${qcow2.backingFormat}`);
    }
    if (qcow2.snapshots.length > 0) lines.push(...snapshotLines(qcow2.snapshots));
    lines.push("Format specific information:", ...textOf(qcow2.specific, 1));
  }
  return `${lines.join("\n")}\n`;
}

/** A tree as qemu-img prints one: dashes become spaces, lists are numbered. */
function textOf(value: unknown, depth: number): string[] {
  const indent = "    ".repeat(depth);
  const entries = Array.isArray(value)
    ? value.map((element: unknown, index) => [`[${index}]`, element] as const)
    : Object.entries(value as Json).map(([key, element]) => [key.replaceAll("-", " "), element] as const);
  return entries.flatMap(([key, element]) =>
    typeof element === "object" && element !== null
      ? [`${indent}${key}:`, ...textOf(element, depth + 1)]
      : [`${indent}${key}: ${String(element)}`],
  );
}
