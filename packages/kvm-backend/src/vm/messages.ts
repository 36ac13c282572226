import { ioctlBuffer, type OwnedDescriptor, RootedBuffer, SystemCallError } from "@northbridge/linux";
import { Request, SizeOf } from "../abi/spec.ts";

/** Message-signalled interrupts to the local APICs in the kernel. */
export class Messages {
  readonly #vm: OwnedDescriptor;
  readonly #msi = new RootedBuffer(SizeOf.kvm_msi);
  /** Messages to local APICs that there are not: a guest's mistake, which is lost on hardware too. */
  untaken = 0;

  constructor(vm: OwnedDescriptor) {
    this.#vm = vm;
  }

  signal(address: number, data: number): void {
    this.#msi.view.setUint32(0, address >>> 0, true);
    this.#msi.view.setUint32(8, data, true);
    try {
      ioctlBuffer(this.#vm.fd, Request.KVM_SIGNAL_MSI, this.#msi, "KVM_SIGNAL_MSI");
    } catch (error) {
      // KVM's -1 for a message that reached nobody, as an errno.
      if (!(error instanceof SystemCallError) || error.errno !== "EPERM") throw error;
      this.untaken++;
    }
  }
}
