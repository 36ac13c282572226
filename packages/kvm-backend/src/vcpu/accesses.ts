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
      if (isWrite) this.#ports.write(port, width, this.#get(at, width));
      else this.#put(at, width, this.#ports.read(port, width));
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
      const left = length - done;
      const width: IoWidth = left >= 4 ? 4 : left >= 2 ? 2 : 1;
      const at = Run.MMIO_DATA + done;
      if (isWrite) this.#mmio.write(address + done, width, this.#get(at, width));
      else this.#put(at, width, this.#mmio.read(address + done, width));
      done += width;
    }
  }

  #get(at: number, width: IoWidth): number {
    const run = this.#run;
    return width === 1 ? run.getUint8(at) : width === 2 ? run.getUint16(at, true) : run.getUint32(at, true);
  }

  #put(at: number, width: IoWidth, value: number): void {
    const run = this.#run;
    if (width === 1) run.setUint8(at, value);
    else if (width === 2) run.setUint16(at, value, true);
    else run.setUint32(at, value, true);
  }
}
