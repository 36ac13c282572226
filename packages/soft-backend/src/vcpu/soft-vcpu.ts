import { NorthbridgeError, type RunOptions, type Vcpu, type VcpuState, type VmExit } from "@northbridge/sdk";
import type { CpuCore } from "../cpu/core.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import type { SoftProcessor } from "./soft-processor.ts";
import { readVcpuState, writeVcpuState } from "./vcpu-state.ts";

/** The contract's view of one processor. */
export class SoftVcpu implements Vcpu {
  readonly index: number;
  readonly #core: CpuCore;
  readonly #processor: SoftProcessor;
  readonly #scheduler: Scheduler;

  constructor(deps: {
    readonly core: CpuCore;
    readonly processor: SoftProcessor;
    readonly scheduler: Scheduler;
  }) {
    this.index = deps.processor.index;
    this.#core = deps.core;
    this.#processor = deps.processor;
    this.#scheduler = deps.scheduler;
  }

  run(options?: RunOptions): Promise<VmExit> {
    return this.#scheduler.run(this.index, options);
  }

  kick(): void {
    this.#scheduler.kick(this.index);
  }

  getState(): VcpuState {
    this.#assertStopped("getState");
    return readVcpuState(this.#core, this.#processor);
  }

  setState(state: VcpuState): void {
    this.#assertStopped("setState");
    writeVcpuState(this.#core, this.#processor, state);
  }

  reset(): void {
    this.#assertStopped("reset");
    this.#processor.reset();
  }

  setDebug(
    debug: { readonly singleStep?: boolean; readonly breakpoints?: readonly bigint[] } | undefined,
  ): void {
    const breakpoints = new Set(debug?.breakpoints);
    const singleStep = debug?.singleStep ?? false;
    this.#scheduler.setDebug(
      this.index,
      singleStep || breakpoints.size > 0 ? { singleStep, breakpoints } : undefined,
    );
  }

  #assertStopped(what: string): void {
    if (this.#scheduler.isPending(this.index)) {
      throw new NorthbridgeError("NB_BACKEND", `vCPU ${this.index}: ${what} called while a run is pending`);
    }
  }
}
