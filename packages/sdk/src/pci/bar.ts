import type {
  Doorbell,
  IoHandler,
  IoWidth,
  PostedRange,
  Unmap,
  UntrustedHandler,
  VcpuRange,
} from "@northbridge/core/contracts";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { ConfigSpace } from "./config-space.ts";
import { Bar as Bits, Command, Reg } from "./spec.ts";

/** A part of a BAR that one handler answers. */
export interface BarRegion {
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  readonly handler: IoHandler;
}

/** A base address register (PCI 3.0 §6.2.5). */
export interface BarOptions {
  /** 0–5; a 64-bit BAR takes the next one as well. */
  readonly index: number;
  readonly kind: "memory32" | "memory64" | "io";
  /** Bytes, a power of two: memory from 16, ports 4 to 256. */
  readonly length: number;
  readonly prefetchable?: boolean;
  /** Accesses outside every region read as zero and write nothing. */
  readonly regions: readonly BarRegion[];
}

type MapRegion = (
  region: { readonly name: string; readonly base: number; readonly length: number },
  handler: IoHandler,
) => Unmap;

const WORD = 2 ** 32;
/** Addresses above are not representable on any x86 processor. */
const MAX_ADDRESS = 2 ** 52;

/** One BAR: where the guest put it, and what answers there. */
export class BarWindow implements IoHandler {
  readonly index: number;
  readonly options: BarOptions;
  readonly doorbells: readonly Doorbell[];
  readonly posted: readonly PostedRange[];
  readonly onVcpus: readonly VcpuRange[];
  readonly #map: MapRegion;
  readonly #name: string;
  #unmap: Unmap | undefined;
  #base: number | undefined;
  #conflict = false;

  constructor(name: string, options: BarOptions, map: MapRegion) {
    this.index = options.index;
    this.options = options;
    const ofRegions = <T extends { readonly offset: number }>(
      of: (handler: IoHandler) => readonly T[],
    ): T[] =>
      options.regions.flatMap(({ offset, handler }) =>
        of(handler).map((part) => ({ ...part, offset: offset + part.offset })),
      );
    this.doorbells = ofRegions(({ doorbells = [] }) => doorbells);
    this.posted = ofRegions(({ posted = [] }) => posted);
    this.onVcpus = ofRegions(({ onVcpus = [] }) => onVcpus);
    this.#name = name;
    this.#map = map;
  }

  /** Writes type bits and size mask to the header. */
  declare(config: ConfigSpace): void {
    const { kind, length, prefetchable } = this.options;
    const offset = Reg.BAR0 + 4 * this.index;
    if (kind === "io") {
      config.set(offset, 4, Bits.IO);
      config.allow(offset, 4, ~(length - 1) & 0xffff & ~Bits.IO_FLAGS);
      return;
    }
    config.set(
      offset,
      4,
      (kind === "memory64" ? Bits.MEMORY_64 : 0) | (prefetchable === true ? Bits.PREFETCHABLE : 0),
    );
    config.allow(offset, 4, length >= WORD ? 0 : ~(length - 1) & ~Bits.MEMORY_FLAGS);
    if (kind === "memory64") config.allow(offset + 4, 4, length > WORD ? ~(length / WORD - 1) : 0xffff_ffff);
  }

  /** Another region stands where the guest put this one: it stays unmapped until one of them moves. */
  get hasConflict(): boolean {
    return this.#conflict;
  }

  /** Address where the BAR answers now. */
  get base(): number | undefined {
    return this.#base;
  }

  /** Follows the header: maps, moves or unmaps the window. */
  sync(config: ConfigSpace): void {
    const base = this.#wanted(config);
    if (base === this.#base && !this.#conflict) return;
    this.#unmap?.();
    this.#unmap = undefined;
    this.#base = undefined;
    this.#conflict = false;
    if (base === undefined) return;
    try {
      this.#unmap = this.#map({ name: this.#name, base, length: this.options.length }, this);
      this.#base = base;
    } catch (error) {
      if (!(error instanceof NorthbridgeError) || error.code !== "NB_REGION_OVERLAP") throw error;
      this.#conflict = true; // the guest's mistake, or a step on its way
    }
  }

  read(offset: number, width: IoWidth): number {
    const region = this.#regionAt(offset);
    return region === undefined ? 0 : region.handler.read(offset - region.offset, width);
  }

  write(offset: number, width: IoWidth, value: number): unknown {
    const region = this.#regionAt(offset);
    const handler: UntrustedHandler | undefined = region?.handler;
    return handler?.write(offset - (region?.offset ?? 0), width, value);
  }

  #regionAt(offset: number): BarRegion | undefined {
    for (const region of this.options.regions) {
      if (offset >= region.offset && offset < region.offset + region.length) return region;
    }
    return undefined;
  }

  /** What the header says; undefined where decoding is off, at 0, and at the top, where sizing leaves a BAR. */
  #wanted(config: ConfigSpace): number | undefined {
    const { kind, length } = this.options;
    const command = config.read(Reg.COMMAND, 2);
    if ((command & (kind === "io" ? Command.IO : Command.MEMORY)) === 0) return undefined;
    const offset = Reg.BAR0 + 4 * this.index;
    const low = config.read(offset, 4);
    if (kind === "io") {
      const base = low - (low % 4);
      return base === 0 || base + length > 0xffff ? undefined : base;
    }
    const base = low - (low % 16) + (kind === "memory64" ? config.read(offset + 4, 4) * WORD : 0);
    const isTop = base < WORD && base + length >= WORD;
    return base === 0 || isTop || base + length > MAX_ADDRESS ? undefined : base;
  }
}

/** Checks what a device author wrote. Throws `NB_CONFIG`. */
export function checkBars(name: string, bars: readonly BarOptions[]): void {
  const used = new Set<number>();
  for (const { index, kind, length, regions } of bars) {
    const [min, max] = kind === "io" ? [4, 256] : [16, 2 ** 40];
    const isPowerOfTwo = Number.isInteger(Math.log2(length));
    if (!isPowerOfTwo || length < min || length > max) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${name}: BAR ${index}: length ${length} is not a power of two from ${min} to ${max}`,
      );
    }
    for (const slot of kind === "memory64" ? [index, index + 1] : [index]) {
      if (!Number.isInteger(slot) || slot < 0 || slot > 5 || used.has(slot)) {
        throw new NorthbridgeError("NB_CONFIG", `${name}: BAR ${slot} is taken or does not exist`);
      }
      used.add(slot);
    }
    for (const region of regions) {
      if (region.offset < 0 || region.offset + region.length > length) {
        throw new NorthbridgeError(
          "NB_CONFIG",
          `${name}: BAR ${index}: region at ${region.offset} leaves its ${length} bytes`,
        );
      }
    }
  }
}
