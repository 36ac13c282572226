import { ioctl, ioctlBuffer, type OwnedDescriptor, RootedBuffer } from "@northbridge/linux";
import { type InterruptEvent, RestoreError } from "@northbridge/sdk";
import { IOAPIC_PINS, IrqchipId, Request, SizeOf } from "../abi/spec.ts";
import { GsiRouting, type PinRoute } from "./gsi-routing.ts";
import type { Controllers } from "./controllers.ts";
import { InterruptEvents } from "./interrupt-events.ts";
import { Messages } from "./messages.ts";

/** One 8259A in the form that the software CPU saves. */
interface ChipState {
  readonly lines: number;
  readonly irr: number;
  readonly isr: number;
  readonly imr: number;
  readonly elcr: number;
  readonly vectorBase: number;
  readonly expectIcw: number;
  readonly icw1: number;
  readonly icw3: number;
  readonly icw4: number;
  readonly highest: number;
  readonly rotateOnAeoi: boolean;
  readonly specialMask: boolean;
  readonly readIsr: boolean;
  readonly poll: boolean;
}

/** What the software CPU's interrupt controllers save, version 1. */
interface IrqchipState {
  readonly version: 1;
  readonly i8259: { readonly version: 1; readonly master: ChipState; readonly slave: ChipState };
  readonly ioapic: {
    readonly version: 1;
    readonly id: number;
    readonly select: number;
    readonly lines: number;
    readonly redirection: readonly (readonly [low: number, high: number])[];
  };
}

/** `kvm_pic_state`, from the chip's start: a byte each. */
const Pic = {
  LAST_IRR: 0,
  IRR: 1,
  IMR: 2,
  ISR: 3,
  PRIORITY_ADD: 4,
  IRQ_BASE: 5,
  READ_REG_SELECT: 6,
  POLL: 7,
  SPECIAL_MASK: 8,
  INIT_STATE: 9,
  AUTO_EOI: 10,
  ROTATE_ON_AUTO_EOI: 11,
  SPECIAL_FULLY_NESTED: 12,
  INIT4: 13,
  ELCR: 14,
  ELCR_MASK: 15,
} as const;
/** `kvm_ioapic_state`, from the chip's start. */
const Io = { BASE: 0, SELECT: 8, ID: 12, IRR: 16, TABLE: 24 } as const;
const CHIP = 8;
/** ICW1 with ICW4 to come, cascaded: what a PC's firmware and kernels write (8259A data sheet). */
const ICW1 = 0x11;
const ICW4_8086 = 1;
const ICW4_AEOI = 2;
const ICW4_SFNM = 0x10;
const SLAVE_INPUT = 2;

/** The interrupt controllers in the kernel: the 8259 pair and the I/O APIC. */
export class Irqchip implements Controllers {
  readonly hasLocalApics = true;
  readonly #vm: OwnedDescriptor;
  readonly #events: InterruptEvents;
  readonly #line = new RootedBuffer(SizeOf.kvm_irq_level);
  readonly #messages: Messages;
  readonly #chip = new RootedBuffer(SizeOf.kvm_irqchip);
  /** Input levels by GSI. */
  #lines = 0;

  /** Creates the controllers in a VM that has no vCPU yet. */
  constructor(vm: OwnedDescriptor) {
    this.#vm = vm;
    ioctl(vm.fd, Request.KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
    this.#messages = new Messages(vm);
    const routing = new GsiRouting(vm);
    routing.setPins(Array.from({ length: IOAPIC_PINS }, (_, gsi) => routesOf(gsi)).flat());
    this.#events = new InterruptEvents(vm, routing);
  }

  setIrq(gsi: number, level: boolean): void {
    const bit = 1 << gsi;
    this.#lines = level ? this.#lines | bit : this.#lines & ~bit;
    this.#line.view.setUint32(0, gsi, true);
    this.#line.view.setUint32(4, level ? 1 : 0, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_IRQ_LINE, this.#line, `interrupt line ${gsi}`);
  }

  get untakenMessages(): number {
    return this.#messages.untaken;
  }

  signal(address: number, data: number): void {
    this.#messages.signal(address, data);
  }

  event(address: number, data: number): InterruptEvent | undefined {
    return this.#events.create(address, data);
  }

  close(): void {
    this.#events.close();
  }

  save(): IrqchipState {
    const master = this.#savePic(IrqchipId.PIC_MASTER);
    const slave = this.#savePic(IrqchipId.PIC_SLAVE);
    this.#get(IrqchipId.IOAPIC);
    const { view } = this.#chip;
    const at = (offset: number): number => view.getUint32(CHIP + offset, true);
    return {
      version: 1,
      i8259: { version: 1, master, slave },
      ioapic: {
        version: 1,
        id: at(Io.ID) & 15,
        select: at(Io.SELECT) & 0xff,
        lines: this.#ioapicLines(),
        redirection: Array.from(
          { length: IOAPIC_PINS },
          (_, pin) => [at(Io.TABLE + 8 * pin), at(Io.TABLE + 8 * pin + 4)] as const,
        ),
      },
    };
  }

  restore(state: unknown): void {
    const saved = state as Partial<IrqchipState> | null;
    if (saved?.version !== 1 || saved.i8259 === undefined || saved.ioapic === undefined) {
      throw new RestoreError(
        "irqchip",
        `expected version 1 with i8259 and ioapic, found version ${String(saved?.version)}`,
      );
    }
    const { i8259, ioapic } = saved;
    const pin0 = (ioapic.lines >>> 2) & 1;
    this.#lines =
      (ioapic.lines & 0xfffffa) |
      pin0 |
      (i8259.master.lines & ~(1 << SLAVE_INPUT)) |
      (i8259.slave.lines << 8);
    this.#get(IrqchipId.IOAPIC);
    const { view } = this.#chip;
    view.setUint32(CHIP + Io.ID, ioapic.id, true);
    view.setUint32(CHIP + Io.SELECT, ioapic.select, true);
    view.setUint32(CHIP + Io.IRR, ioapic.lines, true);
    ioapic.redirection.forEach(([low, high], pin) => {
      view.setUint32(CHIP + Io.TABLE + 8 * pin, low, true);
      view.setUint32(CHIP + Io.TABLE + 8 * pin + 4, high, true);
    });
    this.#set(IrqchipId.IOAPIC);
    this.#restorePic(IrqchipId.PIC_MASTER, i8259.master);
    this.#restorePic(IrqchipId.PIC_SLAVE, i8259.slave);
  }

  #ioapicLines(): number {
    return ((this.#lines & 0xfffffa) | ((this.#lines & 1) << 2)) >>> 0;
  }

  #savePic(id: number): ChipState {
    this.#get(id);
    const at = (offset: number): number => this.#chip.bytes[CHIP + offset] ?? 0;
    const isSlave = id === IrqchipId.PIC_SLAVE;
    return {
      lines: isSlave ? (this.#lines >>> 8) & 0xff : this.#lines & 0xff & ~(1 << SLAVE_INPUT),
      irr: at(Pic.IRR),
      isr: at(Pic.ISR),
      imr: at(Pic.IMR),
      elcr: at(Pic.ELCR),
      vectorBase: at(Pic.IRQ_BASE),
      expectIcw: at(Pic.INIT_STATE) === 0 ? 0 : at(Pic.INIT_STATE) + 1,
      icw1: ICW1,
      icw3: isSlave ? SLAVE_INPUT : 1 << SLAVE_INPUT,
      icw4:
        ICW4_8086 |
        (at(Pic.AUTO_EOI) !== 0 ? ICW4_AEOI : 0) |
        (at(Pic.SPECIAL_FULLY_NESTED) !== 0 ? ICW4_SFNM : 0),
      highest: at(Pic.PRIORITY_ADD) & 7,
      rotateOnAeoi: at(Pic.ROTATE_ON_AUTO_EOI) !== 0,
      specialMask: at(Pic.SPECIAL_MASK) !== 0,
      readIsr: at(Pic.READ_REG_SELECT) !== 0,
      poll: at(Pic.POLL) !== 0,
    };
  }

  #restorePic(id: number, saved: ChipState): void {
    this.#get(id);
    const put = (offset: number, value: number | boolean): void => {
      this.#chip.bytes[CHIP + offset] = Number(value);
    };
    put(Pic.LAST_IRR, saved.lines);
    put(Pic.IRR, saved.irr);
    put(Pic.IMR, saved.imr);
    put(Pic.ISR, saved.isr);
    put(Pic.PRIORITY_ADD, saved.highest);
    put(Pic.IRQ_BASE, saved.vectorBase);
    put(Pic.READ_REG_SELECT, saved.readIsr);
    put(Pic.POLL, saved.poll);
    put(Pic.SPECIAL_MASK, saved.specialMask);
    put(Pic.INIT_STATE, saved.expectIcw === 0 ? 0 : saved.expectIcw - 1);
    put(Pic.AUTO_EOI, (saved.icw4 & ICW4_AEOI) !== 0);
    put(Pic.ROTATE_ON_AUTO_EOI, saved.rotateOnAeoi);
    put(Pic.SPECIAL_FULLY_NESTED, (saved.icw4 & ICW4_SFNM) !== 0);
    put(Pic.INIT4, (saved.icw1 & 1) !== 0);
    put(Pic.ELCR, saved.elcr);
    this.#set(id);
  }

  #get(id: number): void {
    this.#chip.view.setUint32(0, id, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_GET_IRQCHIP, this.#chip, "KVM_GET_IRQCHIP");
  }

  #set(id: number): void {
    this.#chip.view.setUint32(0, id, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_SET_IRQCHIP, this.#chip, "KVM_SET_IRQCHIP");
  }
}

/** A PC's wiring: GSI 0 is the timer, on pin 2 of the I/O APIC; GSI 2, the cascade, reaches nothing there. */
function routesOf(gsi: number): readonly PinRoute[] {
  const chip = gsi < 8 ? IrqchipId.PIC_MASTER : IrqchipId.PIC_SLAVE;
  return [
    ...(gsi < 16 ? [{ gsi, chip, pin: gsi & 7 }] : []),
    ...(gsi === 2 ? [] : [{ gsi, chip: IrqchipId.IOAPIC, pin: gsi === 0 ? 2 : gsi }]),
  ];
}
