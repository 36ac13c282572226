import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import { Request, SizeOf } from "../abi/spec.ts";

/** Message-signalled interrupts to the local APICs in the kernel. */
export class Messages {
  readonly #vm: number;
  readonly #msi = new RootedBuffer(SizeOf.kvm_msi);

  constructor(vm: number) {
    this.#vm = vm;
  }

  signal(address: number, data: number): void {
    this.#msi.view.setUint32(0, address >>> 0, true);
    this.#msi.view.setUint32(8, data, true);
    ioctlBuffer(this.#vm, Request.KVM_SIGNAL_MSI, this.#msi, "KVM_SIGNAL_MSI");
  }
}
