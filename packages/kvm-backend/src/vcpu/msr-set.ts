import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import { Msr, Request, SizeOf } from "../abi/spec.ts";

const MAX_MSRS = 1024;

/** Calls for single MSRs of one vCPU: a batch stops at the first that KVM refuses. */
export class MsrAccess {
  readonly #fd: number;
  readonly #buffer = new RootedBuffer(SizeOf.kvm_msrs + SizeOf.kvm_msr_entry);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** `undefined` where this KVM has no such MSR. */
  read(index: number): bigint | undefined {
    this.#prepare(index, 0n);
    return this.#call(Request.KVM_GET_MSRS) ? this.#buffer.view.getBigUint64(16, true) : undefined;
  }

  /** Whether KVM took the value. */
  write(index: number, value: bigint): boolean {
    this.#prepare(index, value);
    return this.#call(Request.KVM_SET_MSRS);
  }

  #prepare(index: number, value: bigint): void {
    const { view } = this.#buffer;
    view.setUint32(0, 1, true);
    view.setUint32(8, index, true);
    view.setBigUint64(16, value, true);
  }

  /** KVM says of how many MSRs it took notice; an errno is no answer about an MSR. */
  #call(request: number): boolean {
    return ioctlBuffer(this.#fd, request, this.#buffer, "an MSR") === 1;
  }
}

/** `KVM_GET_MSR_INDEX_LIST`. @param kvm an open `/dev/kvm` */
export function listMsrs(kvm: number): readonly number[] {
  const list = new RootedBuffer(SizeOf.kvm_msr_list + 4 * MAX_MSRS);
  list.view.setUint32(0, MAX_MSRS, true);
  ioctlBuffer(kvm, Request.KVM_GET_MSR_INDEX_LIST, list, "KVM_GET_MSR_INDEX_LIST");
  return Array.from({ length: list.view.getUint32(0, true) }, (_, i) =>
    list.view.getUint32(SizeOf.kvm_msr_list + 4 * i, true),
  );
}

/**
 * MSRs of a processor that can be saved: those that take back what they say, of what KVM lists and of what it keeps for
 * guests without listing it. TSC comes apart.
 */
export function findSavableMsrs(listed: readonly number[], msrs: MsrAccess): readonly number[] {
  return [...new Set([...listed, ...unlistedMsrs(msrs)])].filter((index) => {
    if (index === Msr.IA32_TSC || index === Msr.IA32_TSC_DEADLINE) return false;
    const value = msrs.read(index);
    return value !== undefined && msrs.write(index, value);
  });
}

const range = (first: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, i) => first + i);

/** Memory types and machine checks (SDM 3A §12.11, 3B §16.3), and TSC_AUX: KVM lists them on some hosts only. */
function unlistedMsrs(msrs: MsrAccess): readonly number[] {
  const mtrrs = Number((msrs.read(Msr.IA32_MTRRCAP) ?? 0n) & 0xffn);
  const banks = Number((msrs.read(Msr.IA32_MCG_CAP) ?? 0n) & 0xffn);
  return [
    Msr.IA32_TSC_AUX,
    ...range(Msr.IA32_MTRR_PHYSBASE0, 2 * mtrrs),
    ...[Msr.IA32_MTRR_FIX64K_00000, Msr.IA32_MTRR_FIX16K_80000, Msr.IA32_MTRR_FIX16K_A0000],
    ...range(Msr.IA32_MTRR_FIX4K_C0000, 8),
    Msr.IA32_MTRR_DEF_TYPE,
    Msr.IA32_MCG_STATUS,
    Msr.IA32_MCG_CTL,
    ...range(Msr.IA32_MC0_CTL, 4 * banks),
  ];
}
