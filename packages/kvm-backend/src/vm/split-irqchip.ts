import { type ApicMessage, InterruptControllers, IOAPIC_PAGE } from "@northbridge/devices-legacy";
import {
  ioctlBuffer,
  type OwnedDescriptor,
  PAGE_SIZE,
  RootedBuffer,
  SystemCallError,
} from "@northbridge/linux";
import { type BusAccess, type InterruptEvent, type IoWidth, NorthbridgeError } from "@northbridge/sdk";
import { Capability, IOAPIC_PINS, Request, SizeOf } from "../abi/spec.ts";
import { type Controllers, type OutsideControllers, portsOf } from "./controllers.ts";
import { GsiRouting, type PinRoute } from "./gsi-routing.ts";
import { InterruptEvents } from "./interrupt-events.ts";
import { Messages } from "./messages.ts";

/** Messages to local APICs (SDM 3A §11.11). */
const Msi = {
  ADDRESS: 0xfee00000,
  DESTINATION_SHIFT: 12,
  LOGICAL: 4,
  MODE_SHIFT: 8,
  ASSERT: 1 << 14,
  LEVEL: 1 << 15,
};
/** Bits of a redirection entry's low word (82093AA §3.2.4). */
const Redirection = { LOGICAL: 1 << 11, REMOTE_IRR: 1 << 14, LEVEL: 1 << 15, MASKED: 1 << 16 };

interface Message {
  readonly address: number;
  readonly data: number;
}

/**
 * The split irqchip: local APICs in the kernel, the 8259 pair and the I/O APIC on the machine thread. What the I/O APIC
 * sends is a message-signalled interrupt; ends of level-triggered ones come back as exits.
 */
export class SplitIrqchip implements Controllers {
  readonly hasLocalApics = true;
  readonly outside: OutsideControllers;
  readonly #chips: InterruptControllers;
  readonly #messages: Messages;
  readonly #routing: GsiRouting;
  readonly #events: InterruptEvents;
  #isAsserted = false;
  /** What each pin sends, or sent last where it is masked. */
  #routes: readonly (Message | undefined)[] = [];

  /**
   * Turns it on in a VM that has no vCPU yet. Throws `NB_BACKEND` where this KVM has none.
   * @param deps.asserted the 8259 pair has an interrupt for the first processor
   */
  constructor(
    vm: OwnedDescriptor,
    deps: { readonly ports: BusAccess; readonly mmio: BusAccess; readonly asserted: () => void },
  ) {
    const enable = new RootedBuffer(SizeOf.kvm_enable_cap);
    enable.view.setUint32(0, Capability.KVM_CAP_SPLIT_IRQCHIP, true);
    enable.view.setBigUint64(8, BigInt(IOAPIC_PINS), true);
    try {
      ioctlBuffer(vm.fd, Request.KVM_ENABLE_CAP, enable, "KVM_CAP_SPLIT_IRQCHIP");
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      throw new NorthbridgeError("NB_BACKEND", "irqchip: this KVM has no split one", { cause: error });
    }
    this.#messages = new Messages(vm);
    this.#routing = new GsiRouting(vm);
    this.#events = new InterruptEvents(vm, this.#routing);
    this.#chips = new InterruptControllers({
      deliver: (message) => {
        const { address, data } = messageOf(message);
        this.#messages.signal(address, data);
      },
      picOutput: (level) => {
        this.#isAsserted = level;
        if (level) deps.asserted();
      },
    });
    this.outside = this.#makeOutside(deps);
  }

  setIrq(gsi: number, level: boolean): void {
    this.#chips.setIrq(gsi, level);
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

  save(): unknown {
    return this.#chips.save();
  }

  restore(state: unknown): void {
    this.#chips.restore(state);
    this.#routes = [];
    this.#route();
  }

  close(): void {
    this.#events.close();
  }

  #makeOutside({ ports, mmio }: { readonly ports: BusAccess; readonly mmio: BusAccess }): OutsideControllers {
    const chips = this.#chips;
    const isIoapic = (address: number): boolean => Math.floor(address / PAGE_SIZE) === IOAPIC_PAGE;
    const asserted = (): boolean => this.#isAsserted;
    return {
      ports: portsOf(chips, ports),
      mmio: {
        read: (address, width: IoWidth) =>
          isIoapic(address) ? chips.ioapic.read(address % PAGE_SIZE, width) : mmio.read(address, width),
        write: (address, width, value) => {
          if (!isIoapic(address)) {
            mmio.write(address, width, value);
            return;
          }
          chips.ioapic.write(address % PAGE_SIZE, width, value);
          this.#route();
        },
      },
      get isAsserted(): boolean {
        return asserted();
      },
      acknowledge: () => chips.pic.acknowledge(),
      endOfInterrupt: (vector) => {
        chips.ioapic.eoi(vector);
      },
    };
  }

  /**
   * Tells the kernel what the pins send: from that it knows whose ends of interrupts are exits. A pin that is masked
   * keeps what it sent: the end of that may be still to come.
   */
  #route(): void {
    const routes = this.#chips.ioapic.save().redirection.map(([low, high], pin) => {
      const isQuiet = (low & (Redirection.MASKED | Redirection.REMOTE_IRR)) === Redirection.MASKED;
      return isQuiet ? this.#routes[pin] : messageOf(entryOf(low, high));
    });
    if (routes.every((route, pin) => isSame(route, this.#routes[pin])) && this.#routes.length > 0) return;
    this.#routes = routes;
    this.#routing.setPins(
      routes.flatMap((route, gsi): readonly PinRoute[] => (route === undefined ? [] : [{ gsi, ...route }])),
    );
  }
}

const isSame = (one: Message | undefined, other: Message | undefined): boolean =>
  one?.address === other?.address && one?.data === other?.data;

const entryOf = (low: number, high: number): ApicMessage => ({
  vector: low & 0xff,
  deliveryMode: (low >>> 8) & 7,
  destinationMode: (low & Redirection.LOGICAL) !== 0 ? "logical" : "physical",
  destination: high >>> 24,
  trigger: (low & Redirection.LEVEL) !== 0 ? "level" : "edge",
});

const messageOf = (message: ApicMessage): Message => ({
  address:
    (Msi.ADDRESS |
      (message.destination << Msi.DESTINATION_SHIFT) |
      (message.destinationMode === "logical" ? Msi.LOGICAL : 0)) >>>
    0,
  data:
    message.vector |
    (message.deliveryMode << Msi.MODE_SHIFT) |
    (message.trigger === "level" ? Msi.LEVEL | Msi.ASSERT : 0),
});
