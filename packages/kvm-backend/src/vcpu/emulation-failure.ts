import type { KvmRegs } from "@northbridge/sdk";

/** An instruction that KVM had to emulate and could not (`KVM_INTERNAL_ERROR_EMULATION`). */
export interface EmulationFailure {
  readonly vcpu: number;
  readonly regs: KvmRegs;
  /** From RIP on, as far as they are mapped: up to 15. */
  readonly instructionBytes: Uint8Array;
}

/** How a hook goes on: with these registers, taking this exception first. */
export interface Resumption {
  readonly regs: KvmRegs;
  readonly exception?: { readonly vector: number; readonly error?: number };
}

/**
 * Asked when KVM cannot emulate an instruction; `undefined` lets the run end with an error, as it does without a hook.
 * For hosts whose KVM has no hardware behind it: on others nothing ever calls it.
 */
export type EmulationFailureHook = (failure: EmulationFailure) => Resumption | undefined;
