import { type IoHandler, type MsiTarget, NorthbridgeError, RestoreError } from "@northbridge/core/contracts";
import type { BarOptions } from "./bar.ts";
import { Msix } from "./spec.ts";

/** Saved form, version 1. */
export interface MsixTableStateV1 {
  readonly version: 1;
  /** Four words per vector: address low, address high, data, control. */
  readonly table: readonly number[];
  readonly pending: readonly number[];
}

const WORDS = 4;

/**
 * MSI-X table and pending bits of one function (PCI 3.0 §6.8.2). Enable and function mask come from the capability
 * and are handed over by `control`.
 */
export class MsixTable {
  readonly vectors: number;
  readonly #msi: MsiTarget;
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;
  #control = 0;
  readonly table: IoHandler;
  readonly pba: IoHandler;

  constructor(options: { readonly vectors: number; readonly msi: MsiTarget }) {
    const { vectors, msi } = options;
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > Msix.MAX_VECTORS) {
      throw new NorthbridgeError("NB_CONFIG", `MSI-X: ${vectors} vectors, expected 1 to ${Msix.MAX_VECTORS}`);
    }
    this.vectors = vectors;
    this.#msi = msi;
    this.#table = new Uint32Array(WORDS * vectors);
    this.#pending = new Uint32Array(Math.ceil(vectors / 32));
    this.#clear();
    this.table = {
      read: (offset, width) => lanes(this.#table[offset >> 2] ?? 0, offset, width),
      write: (offset, width, value) => {
        if (width !== 4 || (offset & 3) !== 0) return; // undefined by the specification
        const isControl = (offset >> 2) % WORDS === 3;
        this.#table[offset >> 2] = isControl ? value & Msix.MASKED : value;
        this.#release(offset >> 4);
      },
    };
    this.pba = {
      read: (offset, width) => lanes(this.#pending[offset >> 2] ?? 0, offset, width),
      write: () => {
        /* read-only */
      },
    };
  }

  /** Offset of the pending bits in the BAR that `bar` makes. */
  get pbaOffset(): number {
    return Math.max(0x800, 2 ** Math.ceil(Math.log2(this.vectors * Msix.ENTRY_LENGTH)));
  }

  /** A BAR for table and pending bits alone. */
  bar(index: number): BarOptions {
    return {
      index,
      kind: "memory32",
      length: 2 * this.pbaOffset,
      regions: [
        { offset: 0, length: 4 * this.#table.length, handler: this.table },
        { offset: this.pbaOffset, length: 8 * Math.ceil(this.vectors / 64), handler: this.pba },
      ],
    };
  }

  get isEnabled(): boolean {
    return (this.#control & Msix.ENABLE) !== 0;
  }

  /** The capability's control word changed. */
  control(value: number): void {
    this.#control = value;
    for (let vector = 0; vector < this.vectors; vector++) this.#release(vector);
  }

  /** Sends vector `vector`, or keeps it pending while masked. False where MSI-X is off or there is no such vector. */
  signal(vector: number): boolean {
    if (!this.isEnabled || vector < 0 || vector >= this.vectors) return false;
    if (this.#isMasked(vector))
      this.#pending[vector >> 5] = (this.#pending[vector >> 5] ?? 0) | (1 << (vector & 31));
    else this.#send(vector);
    return true;
  }

  reset(): void {
    this.#control = 0;
    this.#clear();
  }

  save(): MsixTableStateV1 {
    return { version: 1, table: Array.from(this.#table), pending: Array.from(this.#pending) };
  }

  /** Sends nothing. `control` is the capability's word, restored with the configuration space. */
  restore(device: string, state: MsixTableStateV1, control: number): void {
    const found = state as { readonly version: unknown };
    if (found.version !== 1)
      throw new RestoreError(device, `msix: version ${String(found.version)}, expected 1`);
    if (state.table.length !== this.#table.length || state.pending.length !== this.#pending.length) {
      throw new RestoreError(device, `msix: ${state.table.length / WORDS} vectors, expected ${this.vectors}`);
    }
    this.#table.set(state.table);
    this.#pending.set(state.pending);
    this.#control = control;
  }

  #clear(): void {
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) this.#table[WORDS * vector + 3] = Msix.MASKED;
    this.#pending.fill(0);
  }

  #isMasked(vector: number): boolean {
    return (
      (this.#control & Msix.FUNCTION_MASK) !== 0 ||
      ((this.#table[WORDS * vector + 3] ?? 0) & Msix.MASKED) !== 0
    );
  }

  #release(vector: number): void {
    const bit = 1 << (vector & 31);
    const pending = this.#pending[vector >> 5] ?? 0;
    if ((pending & bit) === 0 || !this.isEnabled || this.#isMasked(vector)) return;
    this.#pending[vector >> 5] = pending & ~bit;
    this.#send(vector);
  }

  #send(vector: number): void {
    const at = WORDS * vector;
    if (this.#table[at + 1] !== 0) return; // not the processors' window: a write that nobody sees
    this.#msi.signal(this.#table[at] ?? 0, (this.#table[at + 2] ?? 0) & 0xffff);
  }
}

/** Bytes of a register that a narrow read names. */
function lanes(value: number, offset: number, width: 1 | 2 | 4): number {
  return width === 4 ? value : (value >>> (8 * (offset & 3))) & (width === 1 ? 0xff : 0xffff);
}
