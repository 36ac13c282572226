import {
  EventFd,
  FdWatch,
  ioctl,
  ioctlBuffer,
  type OwnedDescriptor,
  RootedBuffer,
  SystemCallError,
} from "@northbridge/linux";
import type { Doorbell, Unmap } from "@northbridge/sdk";
import { Capability, IoEventFdFlag, Request, SizeOf } from "../abi/spec.ts";

/** Where a bell hangs. */
interface Place extends Pick<Doorbell, "width" | "value"> {
  readonly space: "ports" | "mmio";
  readonly address: number;
}

interface Bell {
  readonly event: EventFd;
  readonly watch: FdWatch;
  readonly ring: () => void;
}

/** Writes that the kernel turns into events of a descriptor, without a word to the vCPU's thread (ioeventfd). */
export class Doorbells {
  readonly #vm: OwnedDescriptor;
  readonly #isSupported: boolean;
  readonly #takesAnyLength: boolean;
  readonly #request = new RootedBuffer(SizeOf.kvm_ioeventfd);
  readonly #bells = new Set<Bell>();
  readonly #before: () => void;
  readonly #failed: (error: Error) => void;
  /** Bells that rang. */
  rung = 0;

  /**
   * @param before is called before bells ring
   * @param failed hears what a bell that rang in the event loop threw
   */
  constructor(vm: OwnedDescriptor, before: () => void, failed: (error: Error) => void) {
    this.#vm = vm;
    this.#before = before;
    this.#failed = failed;
    const has = (capability: number): boolean =>
      ioctl(vm.fd, Request.KVM_CHECK_EXTENSION, capability, "KVM_CHECK_EXTENSION") > 0;
    this.#isSupported = has(Capability.KVM_CAP_IOEVENTFD);
    this.#takesAnyLength = has(Capability.KVM_CAP_IOEVENTFD_ANY_LENGTH);
  }

  /** See `BusShortcuts.doorbell`. */
  hang(at: Place, ring: () => void): Unmap | undefined {
    if (!this.#isSupported || (at.width === undefined && (!this.#takesAnyLength || at.value !== undefined)))
      return undefined;
    const event = new EventFd();
    let bell: Bell;
    try {
      if (!this.#assign(at, event.fd, 0)) {
        event.close();
        return undefined;
      }
      const watch = new FdWatch(event.fd, () => {
        try {
          this.#drain(bell);
        } catch (error) {
          this.#failed(error instanceof Error ? error : new Error(String(error)));
        }
      });
      bell = { event, ring, watch };
    } catch (error) {
      // The kernel lets go of a descriptor that is closed.
      event.close();
      throw error;
    }
    // A machine whose vCPUs stand still must not keep the process.
    bell.watch.unref();
    this.#bells.add(bell);
    return () => {
      if (!this.#bells.delete(bell)) return;
      this.#assign(at, event.fd, IoEventFdFlag.DEASSIGN);
      // What rang before counts, although the register is gone.
      this.#drain(bell);
      this.#release(bell);
    };
  }

  /** Rings what the guest rang so far: nothing is on its way afterwards. */
  drain(): void {
    for (const bell of this.#bells) this.#drain(bell);
  }

  close(): void {
    for (const bell of this.#bells) this.#release(bell);
    this.#bells.clear();
  }

  #drain(bell: Bell): void {
    if (bell.event.drain() === 0n) return;
    this.rung++;
    this.#before();
    bell.ring();
  }

  #release({ watch, event }: Bell): void {
    watch.close();
    event.close();
  }

  /** Whether the kernel took it: it has room for some hundreds, and one per address and value. */
  #assign({ space, address, width, value }: Place, fd: number, flags: number): boolean {
    const { view } = this.#request;
    view.setBigUint64(0, BigInt(value ?? 0), true);
    view.setBigUint64(8, BigInt(address), true);
    view.setUint32(16, width ?? 0, true);
    view.setInt32(20, fd, true);
    const match = value === undefined ? 0 : IoEventFdFlag.DATAMATCH;
    view.setUint32(24, flags | match | (space === "ports" ? IoEventFdFlag.PIO : 0), true);
    try {
      ioctlBuffer(this.#vm.fd, Request.KVM_IOEVENTFD, this.#request, "KVM_IOEVENTFD");
      return true;
    } catch (error) {
      if (error instanceof SystemCallError && (error.errno === "ENOSPC" || error.errno === "EEXIST"))
        return false;
      throw error;
    }
  }
}
