import {
  type HostEndKind,
  type HostEndOptions,
  type HostEndSlots,
  type HostEndSort,
  NorthbridgeError,
} from "../contracts/index.ts";
import { ConfigError, describeValue } from "../config/config-error.ts";
import { parseWith } from "../config/issue.ts";
import { filledSlots } from "./host-end-slots.ts";
import { coreHostEnds } from "../host/core-host-ends.ts";
import { didYouMean } from "./did-you-mean.ts";

/** A kind, and the options its schema made of a config's. */
export interface ParsedHostEnd {
  readonly kind: HostEndKind;
  readonly options: unknown;
}

/** The kinds of host ends that configs may name: those of this package, and what others add. */
export class HostEndKinds {
  readonly #kinds = new Map<string, HostEndKind>();

  constructor() {
    for (const kind of coreHostEnds) this.add(kind);
  }

  /**
   * Throws `NB_CONFIG` where the sort has another kind of that name, but for those of this package: whoever knows the
   * host better does them better.
   */
  add(kind: HostEndKind): void {
    const name = `${kind.of} ${kind.kind}`;
    const known = this.#kinds.get(name);
    if (known === kind) return;
    if (known !== undefined && !coreHostEnds.includes(known))
      throw new NorthbridgeError("NB_CONFIG", `two ${kind.of} back ends are called ${kind.kind}`);
    this.#kinds.set(name, kind);
  }

  /** Whether a kind of any sort has that name. */
  has(name: string): boolean {
    return [...this.#kinds.values()].some(({ kind }) => kind === name);
  }

  of(sort: HostEndSort): readonly HostEndKind[] {
    return [...this.#kinds.values()].filter((kind) => kind.of === sort);
  }

  /**
   * Finds the kind and checks its options, those of the ends under it too. Throws `ConfigError`, or `ConfigErrors`.
   * @param where config path of the end
   */
  async parse(sort: HostEndSort, end: unknown, where: string): Promise<ParsedHostEnd> {
    if (!isHostEnd(end)) {
      throw new ConfigError(
        "NB_CONFIG",
        where,
        `expected a ${sort} back end, as in { kind: ${this.of(sort)[0]?.kind ?? "…"} }, found ${describeValue(end)}`,
      );
    }
    const { kind: name, ...input } = end;
    const kind = this.#kinds.get(`${sort} ${name}`);
    if (kind === undefined) {
      const names = this.of(sort)
        .map((known) => known.kind)
        .sort();
      throw new ConfigError(
        "NB_CONFIG",
        `${where}.kind`,
        `expected a ${sort} back end, found "${name}"${didYouMean(name, names) || `; there are ${names.join(", ")}`}`,
      );
    }
    const options = await parseWith(kind.options, input, where);
    await this.check(kind.ends, options, where);
    return { kind, options };
  }

  /** Checks what a device's or a kind's options say of host ends. Throws `ConfigError`. */
  async check(slots: HostEndSlots | undefined, options: unknown, where: string): Promise<void> {
    for (const { path, sort, end } of filledSlots(slots, options))
      await this.parse(sort, end, `${where}.${path}`);
  }
}

/** Whether a module's export is what `defineHostEnd` makes. */
export const isHostEndKind = (value: unknown): value is HostEndKind =>
  typeof value === "object" && value !== null && "kind" in value && "of" in value && "open" in value;

const isHostEnd = (end: unknown): end is HostEndOptions =>
  typeof end === "object" && end !== null && "kind" in end && typeof end.kind === "string";
