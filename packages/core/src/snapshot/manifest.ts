import { createHash } from "node:crypto";
import * as v from "valibot";
import { type CpuModel, RestoreError, type VcpuState } from "../contracts/index.ts";
import type { BootImage } from "../machine/boot-images.ts";

export const MANIFEST_FILE = "manifest.json";
/** The manifest's digest, as `sha256sum --check` reads it. */
export const DIGEST_FILE = "manifest.sha256";
export const PAGES_FILE = "ram.pages";
export const PAGE_BYTES = 4096;
/** Pages of one run at most: what one checksum covers. */
export const MOST_PAGES_PER_RUN = 256;

const FORMAT = "northbridge-snapshot";
const VERSION = 2;

/** Neighbouring pages that are not all zero, in the order in which they lie in the file of pages. */
export type PageRun = readonly [firstPage: number, pageCount: number, crc32: number];

/** Everything of a snapshot but the pages themselves. Versioned by adding, never by editing. */
export interface ManifestV2 {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
  readonly machineType: string;
  readonly backend: string;
  /** The machine's config: devices by the names of their plugins. Absent where it holds what is no data. */
  readonly config?: unknown;
  /** `cpu` of the config, in words. */
  readonly cpu: string;
  readonly clock: { readonly kind: "realtime" | "virtual"; readonly nowNs: number; readonly epochMs: number };
  readonly memory: {
    readonly slots: readonly {
      readonly name: string;
      readonly gpa: number;
      readonly length: number;
      readonly readOnly: boolean;
      readonly runs: readonly PageRun[];
    }[];
  };
  /** Disks that nothing but the process held; their pages follow those of memory. */
  readonly disks: readonly {
    readonly name: string;
    readonly length: number;
    readonly runs: readonly PageRun[];
  }[];
  readonly devices: readonly {
    readonly id: string;
    readonly plugin: string;
    /** Where the guest finds it, in words to compare. */
    readonly place: readonly string[];
    readonly state?: unknown;
  }[];
  /** What it boots from again. */
  readonly images: readonly BootImage[];
  /** Under a virtual clock: how many random bytes it has drawn. */
  readonly randomBytes?: number;
  readonly irqchip: unknown;
  /** The backend's own, for itself alone. */
  readonly schedule?: unknown;
  readonly vcpus: readonly VcpuState[];
  /** What CPUID told the guest, where the backend knows. */
  readonly cpuModel?: CpuModel;
}

export const manifestHeader: Pick<ManifestV2, "format" | "version"> = { format: FORMAT, version: VERSION };

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const khz = v.pipe(count, v.minValue(1), v.maxValue(0xffff_ffff));

const cpuidLeaf = v.object({
  leaf: count,
  subleaf: v.optional(count),
  eax: count,
  ebx: count,
  ecx: count,
  edx: count,
});

const runs = v.array(v.tuple([count, count, count]));

const Manifest = v.object({
  format: v.literal(FORMAT),
  version: v.literal(VERSION),
  machineType: v.string(),
  backend: v.string(),
  config: v.optional(v.unknown()),
  cpu: v.string(),
  clock: v.object({
    kind: v.picklist(["realtime", "virtual"]),
    nowNs: v.pipe(v.number(), v.finite()),
    epochMs: v.pipe(v.number(), v.finite()),
  }),
  memory: v.object({
    slots: v.array(
      v.object({
        name: v.string(),
        gpa: count,
        length: count,
        readOnly: v.boolean(),
        runs,
      }),
    ),
  }),
  disks: v.array(v.object({ name: v.string(), length: count, runs })),
  devices: v.array(
    v.object({
      id: v.string(),
      plugin: v.string(),
      place: v.array(v.string()),
      state: v.optional(v.unknown()),
    }),
  ),
  images: v.array(v.object({ name: v.string(), bytes: count, crc32: count })),
  randomBytes: v.optional(count),
  irqchip: v.unknown(),
  schedule: v.optional(v.unknown()),
  vcpus: v.array(v.looseObject({ version: v.literal(1) })),
  cpuModel: v.optional(v.object({ name: v.string(), leaves: v.array(cpuidLeaf), tscKhz: v.optional(khz) })),
});

/** `bigint` as `{ "$bigint": "…" }`, in which form it survives JSON. */
export const stringifyManifest = (manifest: ManifestV2): string =>
  JSON.stringify(
    manifest,
    (_key, value: unknown) => (typeof value === "bigint" ? { $bigint: value.toString() } : value),
    1,
  );

export const digestOf = (text: string): string =>
  `${createHash("sha256").update(text).digest("hex")}  ${MANIFEST_FILE}\n`;

/**
 * Reads what `stringifyManifest` wrote. Throws `RestoreError` where it is foreign, of another version or damaged.
 * @param digest what `digestOf` gave
 */
export function parseManifest(text: string, digest: string | undefined, directory: string): ManifestV2 {
  let value: unknown;
  try {
    value = JSON.parse(text, revive);
  } catch {
    throw new RestoreError(directory, `${MANIFEST_FILE} is not JSON`);
  }
  const header = (typeof value === "object" && value !== null ? value : {}) as {
    format?: unknown;
    version?: unknown;
  };
  if (header.format !== FORMAT) {
    throw new RestoreError(
      directory,
      `expected the format "${FORMAT}", found ${JSON.stringify(header.format ?? null)}`,
    );
  }
  if (header.version !== VERSION) {
    const age =
      typeof header.version === "number"
        ? `; ${header.version > VERSION ? "a newer" : "an older"} Northbridge wrote it`
        : "";
    throw new RestoreError(
      directory,
      `expected version ${VERSION} of the format, found ${JSON.stringify(header.version ?? null)}${age}`,
    );
  }
  if (digest === undefined) throw new RestoreError(directory, `there is no ${DIGEST_FILE} in it`);
  if (digest !== digestOf(text))
    throw new RestoreError(directory, `${MANIFEST_FILE} is damaged: it is not what ${DIGEST_FILE} says`);
  const parsed = v.safeParse(Manifest, value);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new RestoreError(
      directory,
      `${MANIFEST_FILE} is damaged at ${v.getDotPath(issue) ?? "its root"}: ${issue.message}`,
    );
  }
  return parsed.output as unknown as ManifestV2;
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("$bigint" in value)) return value;
  return BigInt(String(value.$bigint));
}
