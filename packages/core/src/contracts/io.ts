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
  /**
   * Registers of the region whose writes may come late: in their order, before any other access that this handler or
   * another one answers, some milliseconds later at most. Looked at when the region is mapped.
   */
  readonly posted?: readonly PostedRange[];
  /**
   * Registers that a module answers on the threads of vCPUs, where a backend has such (docs/adr/0033): `read` and
   * `write` of this handler see what it left to them. What it answers overtakes writes that are `posted`: where their
   * order matters, both are of one kind. Looked at when the region is mapped.
   */
  readonly onVcpus?: readonly VcpuRange[];
}

/** Part of a region. */
export interface PostedRange {
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** Part of a region, and who answers it. */
export interface VcpuRange extends PostedRange, VcpuHandlerSource {}

/** Code of a device that runs on the threads of vCPUs: each makes its own handler, over the same shared state. */
export interface VcpuHandlerSource {
  /** URL of an ECMAScript module without top-level `await`; its default export is a `CreateVcpuHandler`. */
  readonly module: string;
  /** All the state there is. vCPUs use it at the same time: by `Atomics` wherever that matters. */
  readonly shared: SharedArrayBuffer;
}

/** Default export of a `VcpuHandlerSource`'s module. */
export type CreateVcpuHandler = (shared: SharedArrayBuffer) => VcpuHandler;

/** Answers accesses on a vCPU's thread; offsets count from the range's start. It has no context: no interrupt, clock or memory but `shared`. */
export interface VcpuHandler {
  /** `undefined`: the machine thread answers. */
  read(offset: number, width: IoWidth): number | undefined;
  /** `false`: the machine thread takes the write. */
  write(offset: number, width: IoWidth, value: number): boolean;
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
