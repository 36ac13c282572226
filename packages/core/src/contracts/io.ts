/** Width of one guest access, in bytes. Wider guest accesses are split, low half first. */
export type IoWidth = 1 | 2 | 4;

/**
 * A device that answers accesses to one mapped region.
 * It sees offsets from the start of its region, never guest addresses.
 * Both calls are synchronous: a vCPU is stopped while they run.
 * Values are unsigned integers of `width` bytes.
 */
export interface IoHandler {
  read(offset: number, width: IoWidth): number;
  write(offset: number, width: IoWidth, value: number): void;
  /**
   * Registers of the region that only ring. A backend that can lets the vCPU go on and calls `write` a little later,
   * once for several writes, before the machine is paused at the latest. Looked at when the region is mapped.
   */
  readonly doorbells?: readonly Doorbell[];
}

/** A register to which a write says no more than "look": what was written before matters, not when it rang. */
export interface Doorbell {
  readonly offset: number;
  /** Bytes. Any where absent, and `write` then sees 4. */
  readonly width?: IoWidth;
  /** The value that rings; another one is a write like any. Any where absent, and `write` then sees 0. */
  readonly value?: number;
}

/** A range of ports or of guest-physical addresses. */
export interface IoRegion {
  /** Owner, as it appears in overlap errors and traces. */
  readonly name: string;
  readonly base: number;
  /** Bytes. */
  readonly length: number;
  /** Widest access the handler takes; the bus splits wider ones, low bytes first. @defaultValue 4 */
  readonly widest?: IoWidth | undefined;
}

/** Undoes one `map`. Calling it twice does nothing. */
export type Unmap = () => void;

/** What a vCPU does to the outside: an access to a port or to an address that is not memory. */
export interface BusAccess {
  /** Unclaimed bytes read as ones. */
  read(address: number, width: IoWidth): number;
  /** Writes to unclaimed bytes vanish. */
  write(address: number, width: IoWidth, value: number): void;
}

/** An address space of handlers. Ports and MMIO are one each. */
export interface Bus extends BusAccess {
  /** Throws `NB_REGION_OVERLAP` naming both regions. Mapping and unmapping from inside a handler is legal. */
  map(region: IoRegion, handler: IoHandler): Unmap;
  readonly regions: readonly IoRegion[];
  /** Accesses nobody claimed since the machine was made. */
  readonly unclaimed: { readonly reads: number; readonly writes: number };
}
