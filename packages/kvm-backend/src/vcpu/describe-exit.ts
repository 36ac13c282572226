import { Exit, InternalError, Run } from "../abi/spec.ts";

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** Names of the exits that this backend asks for nowhere. */
const NAMES = new Map<number, string>([
  [Exit.UNKNOWN, "KVM_EXIT_UNKNOWN"],
  [Exit.EXCEPTION, "KVM_EXIT_EXCEPTION"],
]);
/** `kvm_run.system_event.type`. */
const SYSTEM_EVENTS = ["none", "shutdown", "reset", "crash", "wakeup", "suspend", "SEV termination"];
/** `kvm_run.msr.reason`. */
const MSR_REASONS = new Map<number, string>([
  [1, "a value or bits that it does not take"],
  [2, "an MSR that KVM does not know"],
  [4, "a filter"],
]);

/** What `kvm_run` says of an exit that a guest cannot go on from, in words. */
export function describeExit(run: DataView): string {
  const reason = run.getUint32(Run.EXIT_REASON, true);
  switch (reason) {
    case Exit.FAIL_ENTRY:
      return `the processor refused the guest's state: reason ${hex(run.getBigUint64(Run.HARDWARE_REASON, true))}`;
    case Exit.INTERNAL_ERROR:
      return describeInternalError(run);
    case Exit.SYSTEM_EVENT: {
      const type = run.getUint32(Run.SYSTEM_EVENT_TYPE, true);
      return `system event: ${SYSTEM_EVENTS[type] ?? type}`;
    }
    case Exit.HYPERCALL: {
      const args = [0, 1, 2, 3].map((i) => hex(run.getBigUint64(Run.HYPERCALL_ARGS + 8 * i, true)));
      return `hypercall ${run.getBigUint64(Run.HYPERCALL_NR, true)}(${args.join(", ")})`;
    }
    case Exit.X86_RDMSR:
      return `RDMSR of ${hex(run.getUint32(Run.MSR_INDEX, true))}: ${describeMsrReason(run)}`;
    case Exit.X86_WRMSR: {
      const value = hex(run.getBigUint64(Run.MSR_DATA, true));
      return `WRMSR of ${value} to ${hex(run.getUint32(Run.MSR_INDEX, true))}: ${describeMsrReason(run)}`;
    }
    default:
      return `${NAMES.get(reason) ?? `KVM exit ${reason}`}, which this backend does not know`;
  }
}

/** Bytes of the instruction that KVM could not emulate, where it says them. */
export function instructionOf(run: DataView): Uint8Array | undefined {
  const hasBytes =
    run.getUint32(Run.INTERNAL_NDATA, true) > 0 &&
    (run.getUint32(Run.EMULATION_FLAGS, true) & InternalError.HAS_INSTRUCTION_BYTES) !== 0;
  if (!hasBytes) return undefined;
  const length = Math.min(run.getUint8(Run.EMULATION_LENGTH), InternalError.MAX_INSTRUCTION);
  return Uint8Array.from({ length }, (_, i) => run.getUint8(Run.EMULATION_BYTES + i));
}

function describeInternalError(run: DataView): string {
  const suberror = run.getUint32(Run.INTERNAL_SUBERROR, true);
  if (suberror === InternalError.EMULATION) return "KVM cannot emulate the instruction";
  const count = Math.min(run.getUint32(Run.INTERNAL_NDATA, true), InternalError.MAX_DATA);
  const data = Array.from({ length: count }, (_, i) =>
    hex(run.getBigUint64(Run.INTERNAL_DATA + 8 * i, true)),
  );
  const names = new Map([
    [2, "events that cannot happen at once"],
    [3, "a fault while it delivered an event"],
    [4, "an exit of the processor that it does not know"],
  ]);
  return `KVM internal error: ${names.get(suberror) ?? `suberror ${suberror}`} [${data.join(", ")}]`;
}

const describeMsrReason = (run: DataView): string =>
  MSR_REASONS.get(run.getUint32(Run.MSR_REASON, true)) ?? "no reason that is known";
