import { ioctl, ioctlBuffer, type OwnedDescriptor, RootedBuffer } from "@northbridge/linux";
import { Capability, IOAPIC_PINS, IrqRoute, Request, SizeOf } from "../abi/spec.ts";

/** An address and data that a GSI of its own stands for. */
interface Message {
  readonly address: number;
  readonly data: number;
}

/** A pin of a controller in the kernel that a GSI reaches, or the message that it is. */
export type PinRoute =
  | { readonly gsi: number; readonly chip: number; readonly pin: number }
  | (Message & { readonly gsi: number });

/** What the kernel does about each GSI: 0–23 are pins of the interrupt controllers, those above are messages. */
export class GsiRouting {
  readonly #vm: OwnedDescriptor;
  readonly #most: number;
  readonly #messages = new Map<number, Message>();
  #pins: readonly PinRoute[] = [];

  constructor(vm: OwnedDescriptor) {
    this.#vm = vm;
    this.#most = ioctl(
      vm.fd,
      Request.KVM_CHECK_EXTENSION,
      Capability.KVM_CAP_IRQ_ROUTING,
      "KVM_CAP_IRQ_ROUTING",
    );
  }

  /** Says where the pins' GSIs go. */
  setPins(pins: readonly PinRoute[]): void {
    this.#pins = pins;
    this.#publish();
  }

  /** A GSI that sends the message; `undefined` where there are no more. */
  add(message: Message): number | undefined {
    let gsi: number = IOAPIC_PINS;
    while (this.#messages.has(gsi)) gsi++;
    // Pins that reach two controllers have two routes each.
    if (gsi + IOAPIC_PINS >= this.#most) return undefined;
    this.set(gsi, message);
    return gsi;
  }

  set(gsi: number, message: Message): void {
    this.#messages.set(gsi, message);
    this.#publish();
  }

  delete(gsi: number): void {
    this.#messages.delete(gsi);
    this.#publish();
  }

  #publish(): void {
    const routes = [
      ...this.#pins,
      ...Array.from(this.#messages, ([gsi, message]): PinRoute => ({ gsi, ...message })),
    ];
    const table = new RootedBuffer(SizeOf.kvm_irq_routing + SizeOf.kvm_irq_routing_entry * routes.length);
    const { view } = table;
    view.setUint32(0, routes.length, true);
    routes.forEach((route, i) => {
      const at = SizeOf.kvm_irq_routing + SizeOf.kvm_irq_routing_entry * i;
      const isPin = "chip" in route;
      const words = isPin ? [route.chip, route.pin] : [route.address >>> 0, 0, route.data >>> 0];
      view.setUint32(at, route.gsi, true);
      view.setUint32(at + 4, isPin ? IrqRoute.IRQCHIP : IrqRoute.MSI, true);
      words.forEach((word, j) => {
        view.setUint32(at + IrqRoute.BODY + 4 * j, word, true);
      });
    });
    ioctlBuffer(this.#vm.fd, Request.KVM_SET_GSI_ROUTING, table, "KVM_SET_GSI_ROUTING");
  }
}
