import type { AccessCounter, AddressSpace } from "../bus/address-space.ts";
import type {
  Clock,
  Device,
  GuestMemory,
  InterruptLine,
  MsiTarget,
  PowerControl,
} from "../contracts/index.ts";
import type { HostEndOpener } from "./host-end-opener.ts";

/** Where devices map their regions. */
export interface AddressSpaces {
  readonly ports: AddressSpace;
  readonly mmio: AddressSpace;
}

/** What the machine gives every device. */
export interface DeviceServices {
  readonly clock: Clock;
  readonly memory: GuestMemory;
  readonly power: PowerControl;
  readonly msi: MsiTarget;
  readonly spaces: AddressSpaces;
  readonly hostEnds: HostEndOpener;
  /** A device's own code threw where nobody of the machine called it. */
  onFault(fault: unknown): void;
  irq(gsi: number): InterruptLine;
}

/** A device that has been set up. */
export interface ComposedDevice {
  readonly id: string;
  /** Full name of its plugin. */
  readonly plugin: string;
  readonly device: Device;
  /** Where the guest finds it, in words to compare. */
  readonly place: readonly string[];
  /** Accesses of the guest to its regions. */
  readonly accesses: { readonly ports: AccessCounter; readonly mmio: AccessCounter };
}
