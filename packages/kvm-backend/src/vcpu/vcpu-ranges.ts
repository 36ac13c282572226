import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { CreateVcpuHandler, IoWidth, VcpuHandler } from "@northbridge/sdk";
import { Exit, Run } from "../abi/spec.ts";
import { getValue, putValue } from "./accesses.ts";
import type { RangeMail } from "./mailbox.ts";

interface VcpuRange {
  readonly base: number;
  readonly end: number;
  readonly handler: VcpuHandler;
  readonly gate: Int32Array<SharedArrayBuffer>;
}

const require = createRequire(import.meta.url);

/** Ranges that are answered on this vCPU's thread. */
export class VcpuRanges {
  readonly #run: DataView;
  #ports: readonly VcpuRange[] = [];
  #mmio: readonly VcpuRange[] = [];

  /** @param run the vCPU's `kvm_run` */
  constructor(run: DataView) {
    this.#run = run;
  }

  /** Loads the module. Throws what it throws. */
  add({ space, base, length, module, shared, gate }: RangeMail): void {
    const { default: create } = require(fileURLToPath(module)) as { readonly default: CreateVcpuHandler };
    const range = { base, end: base + length, handler: create(shared), gate: new Int32Array(gate) };
    const open = (known: readonly VcpuRange[]): VcpuRange[] =>
      known.filter((other) => Atomics.load(other.gate, 0) !== 0).concat(range);
    if (space === "ports") this.#ports = open(this.#ports);
    else this.#mmio = open(this.#mmio);
  }

  /** Whether the exit that `kvm_run` tells of is answered, so that the guest can go on. */
  answer(): boolean {
    switch (this.#run.getUint32(Run.EXIT_REASON, true)) {
      case Exit.IO:
        return this.#ports.length > 0 && this.#answerPort();
      case Exit.MMIO:
        return this.#mmio.length > 0 && this.#answerMmio();
      default:
        return false;
    }
  }

  #answerPort(): boolean {
    const run = this.#run;
    if (run.getUint32(Run.IO_COUNT, true) !== 1) return false;
    return this.#access(
      this.#ports,
      run.getUint16(Run.IO_PORT, true),
      run.getUint8(Run.IO_SIZE) as IoWidth,
      run.getUint8(Run.IO_DIRECTION) !== 0,
      run.getUint32(Run.IO_DATA_OFFSET, true),
    );
  }

  #answerMmio(): boolean {
    const run = this.#run;
    const width = run.getUint32(Run.MMIO_LENGTH, true);
    // A part of an access across the end of a page has any length: the machine thread takes it apart.
    if (width !== 1 && width !== 2 && width !== 4) return false;
    const address =
      run.getUint32(Run.MMIO_ADDRESS, true) + run.getUint32(Run.MMIO_ADDRESS + 4, true) * 2 ** 32;
    return this.#access(this.#mmio, address, width, run.getUint8(Run.MMIO_IS_WRITE) !== 0, Run.MMIO_DATA);
  }

  #access(
    ranges: readonly VcpuRange[],
    address: number,
    width: IoWidth,
    isWrite: boolean,
    data: number,
  ): boolean {
    for (const range of ranges) {
      if (address < range.base || address + width > range.end || Atomics.load(range.gate, 0) === 0) continue;
      const offset = address - range.base;
      if (isWrite) return range.handler.write(offset, width, getValue(this.#run, data, width));
      const value = range.handler.read(offset, width);
      if (value === undefined) return false;
      putValue(this.#run, data, width, value);
      return true;
    }
    return false;
  }
}
