/** State of one vCPU, in KVM's own terms (`linux/kvm.h`, x86). Version it by adding, never by editing. */
export interface VcpuState {
  readonly version: 1;
  readonly regs: KvmRegs;
  readonly sregs: KvmSregs;
  /** `kvm_xsave`-shaped: the 512-byte FXSAVE image (SDM 1 §10.5.1), base64. */
  readonly fxsave: string;
  readonly xcr0: bigint;
  /** The XSAVE area in its standard format (SDM 1 §13.4), base64, where it holds more than `fxsave`: AVX and later. */
  readonly xsave?: string;
  /** MSR index → value. */
  readonly msrs: readonly (readonly [index: number, value: bigint])[];
  /** The 1 KiB LAPIC register page as KVM_GET_LAPIC gives it, base64. */
  readonly lapic: string;
  /** Absent where the backend cannot tell: nothing pends, and the timer counts from the page's current count. */
  readonly lapicRemainder?: LocalApicRemainder;
  readonly events: KvmVcpuEvents;
  readonly debugregs: {
    readonly db: readonly [bigint, bigint, bigint, bigint];
    readonly dr6: bigint;
    readonly dr7: bigint;
  };
  readonly mpState: "runnable" | "halted" | "waitForSipi" | "initReceived";
  /** Guest TSC at the moment of the save. */
  readonly tsc: bigint;
}

export interface KvmRegs {
  readonly rax: bigint;
  readonly rbx: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly rsi: bigint;
  readonly rdi: bigint;
  readonly rsp: bigint;
  readonly rbp: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
  readonly r10: bigint;
  readonly r11: bigint;
  readonly r12: bigint;
  readonly r13: bigint;
  readonly r14: bigint;
  readonly r15: bigint;
  readonly rip: bigint;
  readonly rflags: bigint;
}

/** `kvm_segment`. */
export interface KvmSegment {
  readonly base: bigint;
  /** Bytes, as loaded (granularity already applied). */
  readonly limit: number;
  readonly selector: number;
  readonly type: number;
  readonly present: boolean;
  readonly dpl: number;
  readonly db: boolean;
  /** Code or data, as opposed to system. */
  readonly s: boolean;
  readonly l: boolean;
  readonly g: boolean;
  readonly avl: boolean;
  readonly unusable: boolean;
}

export interface KvmSregs {
  readonly cs: KvmSegment;
  readonly ds: KvmSegment;
  readonly es: KvmSegment;
  readonly fs: KvmSegment;
  readonly gs: KvmSegment;
  readonly ss: KvmSegment;
  readonly tr: KvmSegment;
  readonly ldt: KvmSegment;
  readonly gdt: { readonly base: bigint; readonly limit: number };
  readonly idt: { readonly base: bigint; readonly limit: number };
  readonly cr0: bigint;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly cr8: bigint;
  readonly efer: bigint;
  readonly apicBase: bigint;
}

/** `kvm_vcpu_events`, as far as both backends know it. */
export interface KvmVcpuEvents {
  readonly nmiPending: boolean;
  readonly nmiMasked: boolean;
  /** Interrupts are held off for one instruction: after STI or after a load of SS. */
  readonly interruptShadow: boolean;
  /** It is that of a load of SS, which also holds debug traps off (`KVM_X86_SHADOW_INT_MOV_SS`). Absent: STI's. */
  readonly movSsShadow?: boolean;
  /** Was being delivered when the vCPU stopped; delivery is begun anew. Absent: none. */
  readonly exception?: { readonly vector: number; readonly error?: number };
  /** Acknowledged and not delivered yet: of a controller other than the local APIC, or of INT n. Absent: none. */
  readonly interrupt?: { readonly vector: number; readonly isSoft: boolean };
  /** Debug traps met by the last instruction and due before the next, as bits of DR6. Absent: none. */
  readonly pendingDebug?: number;
}

/** What a local APIC holds beside its register page. */
export interface LocalApicRemainder {
  /** Errors detected since the last write of ESR. */
  readonly pendingErrors: number;
  /** Guest nanoseconds until a counting timer reaches zero: `lapic` rounds them up to the divisor. Absent: it does not count. */
  readonly timerLeftNs?: number;
}
