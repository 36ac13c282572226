/**
 * State that outlives the process. `S` must survive `structuredClone` and JSON: a machine refuses to save a state with a
 * `Map`, bytes, a `bigint`, NaN or a promise in it.
 */
export interface Snapshottable<S> {
  save(): S;
  restore(state: S): void;
}

export interface Resettable {
  /** Returns to the power-on state and drops every output line. */
  reset(): void;
}

/**
 * created → running ⇄ paused → stopped; `stopped` is final. A machine that a device has paused before it starts goes
 * from `created` to `paused`.
 * A paused device stops producing work for others but must accept and hold new work.
 */
export type LifecycleState = "created" | "running" | "paused" | "stopped";

/** Why a machine stopped. */
export type StopReason =
  | { readonly kind: "powerOff" }
  | { readonly kind: "reset" }
  | { readonly kind: "panic"; readonly detail: string }
  | { readonly kind: "tripleFault"; readonly detail: string }
  /** Every vCPU executed HLT with interrupts off: nothing can ever happen again. */
  | { readonly kind: "halted" }
  | { readonly kind: "requested" }
  | { readonly kind: "error"; readonly detail: string };

/** What a device may ask of its machine, on the guest's behalf (ACPI PM, i8042, debug exit) or its own. */
export interface PowerControl {
  powerOff(): void;
  /** Resets the machine, or stops it with `reset` where the config says so. */
  reset(): void;
  panic(detail: string): void;
  /** Pauses the machine because the host has to put something right first; a person resumes it. */
  pause(reason: string): void;
}
