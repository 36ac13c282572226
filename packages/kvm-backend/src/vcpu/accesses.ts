import type { BusAccess, IoWidth } from "@northbridge/sdk";
import { Run } from "../abi/spec.ts";

/** Counters for `--stats`. */
export interface ExitCounts {
  portReads: number;
  portWrites: number;
  mmioReads: number;
  mmioWrites: number;
  emulationFailures: number;
  kicks: number;
  dirtyRingFull: number;
}

/** Turns the accesses that `kvm_run` describes into calls of the machine's buses. */
export class Accesses {
  readonly #run: DataView;
  readonly #ports: BusAccess;
  readonly #mmio: BusAccess;
  readonly #counts: ExitCounts;

  constructor(deps: {
    readonly run: DataView;
    readonly ports: BusAccess;
    readonly mmio: BusAccess;
    readonly counts: ExitCounts;
  }) {
    this.#run = deps.run;
    this.#ports = deps.ports;
    this.#mmio = deps.mmio;
    this.#counts = deps.counts;
  }

  /** `KVM_EXIT_IO`: `count` accesses of `size` bytes to one port (INS and OUTS have more than one). */
  port(): void {
    const run = this.#run;
    const isWrite = run.getUint8(Run.IO_DIRECTION) !== 0;
    const width = run.getUint8(Run.IO_SIZE) as IoWidth;
    const port = run.getUint16(Run.IO_PORT, true);
    const count = run.getUint32(Run.IO_COUNT, true);
    let at = run.getUint32(Run.IO_DATA_OFFSET, true);
    this.#counts[isWrite ? "portWrites" : "portReads"] += count;
    for (let i = 0; i < count; i++, at += width) {
      if (isWrite) this.#ports.write(port, width, getValue(run, at, width));
      else putValue(run, at, width, this.#ports.read(port, width));
    }
  }

  /** `KVM_EXIT_MMIO`: up to eight bytes, split into what a bus takes. */
  memory(): void {
    const run = this.#run;
    const isWrite = run.getUint8(Run.MMIO_IS_WRITE) !== 0;
    const length = run.getUint32(Run.MMIO_LENGTH, true);
    const address =
      run.getUint32(Run.MMIO_ADDRESS, true) + run.getUint32(Run.MMIO_ADDRESS + 4, true) * 2 ** 32;
    this.#counts[isWrite ? "mmioWrites" : "mmioReads"]++;
    for (let done = 0; done < length; ) {
      const width = partOf(length - done);
      const at = Run.MMIO_DATA + done;
      if (isWrite) this.#mmio.write(address + done, width, getValue(run, at, width));
      else putValue(run, at, width, this.#mmio.read(address + done, width));
      done += width;
    }
  }
}

/** The widest access that a bus takes of `left` bytes. */
export const partOf = (left: number): IoWidth => (left >= 4 ? 4 : left >= 2 ? 2 : 1);

/** A value of `width` bytes at `at`, little-endian. */
export function getValue(view: DataView, at: number, width: IoWidth): number {
  return width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
}

export function putValue(view: DataView, at: number, width: IoWidth, value: number): void {
  if (width === 1) view.setUint8(at, value);
  else if (width === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
}
