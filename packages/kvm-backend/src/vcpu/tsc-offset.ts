import { ioctlBuffer, RootedBuffer, SystemCallError } from "@northbridge/linux";
import { Request, SizeOf, VcpuAttribute } from "../abi/spec.ts";

/**
 * The offset of a vCPU's time-stamp counter from the host's (KVM: devices/vcpu.rst, `KVM_VCPU_TSC_CTRL`). Writes of
 * IA32_TSC cannot move it by little: KVM takes them for processors that are to agree.
 */
export class TscOffset {
  readonly #fd: number;
  readonly #attribute = new RootedBuffer(SizeOf.kvm_device_attr);
  readonly #offset = new RootedBuffer(8);

  constructor(fd: number) {
    this.#fd = fd;
    const { view } = this.#attribute;
    view.setUint32(4, VcpuAttribute.TSC_CTRL, true);
    view.setBigUint64(8, BigInt(VcpuAttribute.TSC_OFFSET), true);
    view.setBigUint64(16, this.#offset.address, true);
  }

  /** Moves the counter. Returns whether this KVM could: one without a processor's help shows guests the host's. */
  move(by: bigint): boolean {
    try {
      const wanted = BigInt.asIntN(64, this.#get() + by);
      this.#offset.view.setBigInt64(0, wanted, true);
      this.#call("KVM_SET_DEVICE_ATTR");
      return this.#get() === wanted;
    } catch (error) {
      if (error instanceof SystemCallError) return false;
      throw error;
    }
  }

  #get(): bigint {
    this.#call("KVM_GET_DEVICE_ATTR");
    return this.#offset.view.getBigInt64(0, true);
  }

  #call(request: "KVM_GET_DEVICE_ATTR" | "KVM_SET_DEVICE_ATTR"): void {
    this.#offset.lend(() => ioctlBuffer(this.#fd, Request[request], this.#attribute, request));
  }
}
