import { EventFd, ioctl, ioctlBuffer, type OwnedDescriptor, RootedBuffer } from "@northbridge/linux";
import type { InterruptEvent } from "@northbridge/sdk";
import { Capability, IrqfdFlag, Request, SizeOf } from "../abi/spec.ts";
import type { GsiRouting } from "./gsi-routing.ts";

/** Descriptors that the kernel turns into interrupts by itself (irqfd). */
export class InterruptEvents {
  readonly #vm: OwnedDescriptor;
  readonly #routing: GsiRouting;
  readonly #request = new RootedBuffer(SizeOf.kvm_irqfd);
  readonly #open = new Set<InterruptEvent>();

  constructor(vm: OwnedDescriptor, routing: GsiRouting) {
    this.#vm = vm;
    this.#routing = routing;
  }

  /** See `MsiTarget.event`. */
  create(address: number, data: number): InterruptEvent | undefined {
    if (ioctl(this.#vm.fd, Request.KVM_CHECK_EXTENSION, Capability.KVM_CAP_IRQFD, "KVM_CAP_IRQFD") <= 0)
      return undefined;
    const gsi = this.#routing.add({ address, data });
    if (gsi === undefined) return undefined;
    let event: EventFd | undefined;
    try {
      event = new EventFd();
      this.#assign(event.fd, gsi, 0);
    } catch (error) {
      this.#routing.delete(gsi);
      event?.close();
      throw error;
    }
    const { fd } = event;
    const interrupt: InterruptEvent = {
      fd,
      route: (newAddress, newData) => {
        this.#routing.set(gsi, { address: newAddress, data: newData });
      },
      close: () => {
        if (!this.#open.delete(interrupt)) return;
        this.#assign(fd, gsi, IrqfdFlag.DEASSIGN);
        this.#routing.delete(gsi);
        event.close();
      },
    };
    this.#open.add(interrupt);
    return interrupt;
  }

  close(): void {
    for (const interrupt of this.#open) interrupt.close();
  }

  #assign(fd: number, gsi: number, flags: number): void {
    const { view } = this.#request;
    view.setUint32(0, fd, true);
    view.setUint32(4, gsi, true);
    view.setUint32(8, flags, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_IRQFD, this.#request, "KVM_IRQFD");
  }
}
