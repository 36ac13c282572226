import { ioctl, ioctlBuffer, RootedBuffer } from "@northbridge/linux";
import { Capability, IrqRoute, IrqchipId, Request, SizeOf } from "../abi/spec.ts";

/** Pins of the interrupt controllers in the kernel. */
const PINS = 24;

/** An address and data that a GSI of its own stands for. */
interface Message {
  readonly address: number;
  readonly data: number;
}

/** What the kernel does about each GSI: 0–23 are pins of its controllers, those above are messages. */
export class GsiRouting {
  readonly #vm: number;
  readonly #most: number;
  readonly #messages = new Map<number, Message>();

  constructor(vm: number) {
    this.#vm = vm;
    this.#most = ioctl(
      vm,
      Request.KVM_CHECK_EXTENSION,
      Capability.KVM_CAP_IRQ_ROUTING,
      "KVM_CAP_IRQ_ROUTING",
    );
    this.#publish();
  }

  /** A GSI that sends the message; `undefined` where there are no more. */
  add(message: Message): number | undefined {
    let gsi = PINS;
    while (this.#messages.has(gsi)) gsi++;
    // Pins that reach two controllers have two routes each.
    if (gsi + PINS >= this.#most) return undefined;
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
    const pins = Array.from({ length: PINS }, (_, gsi) => routesOf(gsi)).flat();
    const entries = pins.length + this.#messages.size;
    const table = new RootedBuffer(SizeOf.kvm_irq_routing + SizeOf.kvm_irq_routing_entry * entries);
    const { view } = table;
    view.setUint32(0, entries, true);
    let at: number = SizeOf.kvm_irq_routing;
    const put = (gsi: number, type: number, ...words: readonly number[]): void => {
      view.setUint32(at, gsi, true);
      view.setUint32(at + 4, type, true);
      words.forEach((word, i) => {
        view.setUint32(at + IrqRoute.BODY + 4 * i, word, true);
      });
      at += SizeOf.kvm_irq_routing_entry;
    };
    for (const [gsi, chip, pin] of pins) put(gsi, IrqRoute.IRQCHIP, chip, pin);
    for (const [gsi, { address, data }] of this.#messages)
      put(gsi, IrqRoute.MSI, address >>> 0, 0, data >>> 0);
    ioctlBuffer(this.#vm, Request.KVM_SET_GSI_ROUTING, table, "KVM_SET_GSI_ROUTING");
  }
}

/** A PC's wiring: GSI 0 is the timer, on pin 2 of the I/O APIC; GSI 2, the cascade, reaches nothing there. */
function routesOf(gsi: number): readonly (readonly [gsi: number, chip: number, pin: number])[] {
  const chip = gsi < 8 ? IrqchipId.PIC_MASTER : IrqchipId.PIC_SLAVE;
  return [
    ...(gsi < 16 ? [[gsi, chip, gsi & 7] as const] : []),
    ...(gsi === 2 ? [] : [[gsi, IrqchipId.IOAPIC, gsi === 0 ? 2 : gsi] as const]),
  ];
}
