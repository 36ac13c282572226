import * as v from "valibot";
import { type CpuModel, RestoreError, type VcpuState } from "../contracts/index.ts";

export const MANIFEST_FILE = "manifest.json";
export const RAM_FILE = "ram.pages";
export const PAGE_BYTES = 4096;
/** Pages of one run at most: what one checksum covers. */
export const MOST_PAGES_PER_RUN = 256;

const FORMAT = "northbridge-snapshot";
const VERSION = 1;

/** Neighbouring pages that are not all zero, in the order in which they lie in the RAM file. */
export type PageRun = readonly [firstPage: number, pageCount: number, crc32: number];

/** Everything of a snapshot but the pages themselves. Versioned by adding, never by editing. */
export interface ManifestV1 {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
  readonly machineType: string;
  readonly backend: string;
  /** The machine's config, where it can be written as JSON: devices by the names of their plugins. */
  readonly config: unknown;
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
  readonly devices: readonly { readonly id: string; readonly plugin: string; readonly state?: unknown }[];
  readonly irqchip: unknown;
  /** The backend's own, for itself alone. */
  readonly schedule?: unknown;
  readonly vcpus: readonly VcpuState[];
  /** What CPUID told the guest. Older snapshots do not say. */
  readonly cpuModel?: CpuModel;
}

export const manifestHeader: Pick<ManifestV1, "format" | "version"> = { format: FORMAT, version: VERSION };

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

const Manifest = v.object({
  format: v.literal(FORMAT),
  version: v.literal(VERSION),
  machineType: v.string(),
  backend: v.string(),
  config: v.optional(v.unknown()),
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
        runs: v.array(v.tuple([count, count, count])),
      }),
    ),
  }),
  devices: v.array(v.object({ id: v.string(), plugin: v.string(), state: v.optional(v.unknown()) })),
  irqchip: v.unknown(),
  schedule: v.optional(v.unknown()),
  vcpus: v.array(v.looseObject({ version: v.literal(1) })),
  cpuModel: v.optional(v.object({ name: v.string(), leaves: v.array(cpuidLeaf), tscKhz: v.optional(khz) })),
});

/** `bigint` as `{ "$bigint": "…" }`, in which form it survives JSON. */
export const stringifyManifest = (manifest: ManifestV1): string =>
  JSON.stringify(
    manifest,
    (_key, value: unknown) => (typeof value === "bigint" ? { $bigint: value.toString() } : value),
    1,
  );

/** Reads what `stringifyManifest` wrote. Throws `RestoreError` where it is foreign, newer or damaged. */
export function parseManifest(text: string, directory: string): ManifestV1 {
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
      typeof header.version === "number" && header.version > VERSION ? "; a newer Northbridge wrote it" : "";
    throw new RestoreError(
      directory,
      `expected version ${VERSION} of the format, found ${JSON.stringify(header.version ?? null)}${age}`,
    );
  }
  const parsed = v.safeParse(Manifest, value);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new RestoreError(
      directory,
      `${MANIFEST_FILE} is damaged at ${v.getDotPath(issue) ?? "its root"}: ${issue.message}`,
    );
  }
  return parsed.output as unknown as ManifestV1;
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("$bigint" in value)) return value;
  return BigInt(String(value.$bigint));
}
