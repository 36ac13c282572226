import { ioctlBuffer, RootedBuffer, SystemCallError } from "@northbridge/linux";
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

  #call(request: number): boolean {
    try {
      return ioctlBuffer(this.#fd, request, this.#buffer, "an MSR") === 1;
    } catch (error) {
      if (error instanceof SystemCallError) return false;
      throw error;
    }
  }
}

/** MSRs of `KVM_GET_MSR_INDEX_LIST` that take back what they say: only those can be saved. TSC comes apart. */
export function findSavableMsrs(kvm: number, msrs: MsrAccess): readonly number[] {
  const list = new RootedBuffer(SizeOf.kvm_msr_list + 4 * MAX_MSRS);
  list.view.setUint32(0, MAX_MSRS, true);
  ioctlBuffer(kvm, Request.KVM_GET_MSR_INDEX_LIST, list, "KVM_GET_MSR_INDEX_LIST");
  const indices: number[] = [];
  for (let i = 0; i < list.view.getUint32(0, true); i++) {
    const index = list.view.getUint32(SizeOf.kvm_msr_list + 4 * i, true);
    if (index === Msr.IA32_TSC || index === Msr.IA32_TSC_DEADLINE) continue;
    const value = msrs.read(index);
    if (value !== undefined && msrs.write(index, value)) indices.push(index);
  }
  return indices;
}
