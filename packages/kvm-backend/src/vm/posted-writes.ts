import { ioctl, ioctlBuffer, type OwnedDescriptor, RootedBuffer, SystemCallError } from "@northbridge/linux";
import type { BusAccess, Unmap } from "@northbridge/sdk";
import { Capability, CoalescedRing, Request, SizeOf } from "../abi/spec.ts";
import { getValue, partOf } from "../vcpu/accesses.ts";

const FIRST_LOOK_MS = 10;
const LONGEST_MS = 160;

/**
 * Writes that the kernel collects in a ring while the vCPUs go on (coalesced MMIO and port I/O). Nothing says that
 * there are some: they are taken before every exit is served, and now and then while nothing else happens.
 */
export class PostedWrites {
  readonly #vm: OwnedDescriptor;
  readonly #hasPorts: boolean;
  readonly #buses: { readonly ports: BusAccess; readonly mmio: BusAccess };
  readonly #zone = new RootedBuffer(SizeOf.kvm_coalesced_mmio_zone);
  readonly #failed: (error: Error) => void;
  /** The ring is one for the machine; each vCPU's mapping shows it. */
  #ring: DataView | undefined;
  #ringAt = 0;
  #zones = 0;
  #isRunning = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;
  #delayMs = FIRST_LOOK_MS;
  /** Writes taken from the ring. */
  taken = 0;

  /** @param failed hears what a handler threw whose writes were taken in the event loop */
  constructor(
    vm: OwnedDescriptor,
    buses: { readonly ports: BusAccess; readonly mmio: BusAccess },
    failed: (error: Error) => void,
  ) {
    this.#vm = vm;
    this.#buses = buses;
    this.#failed = failed;
    this.#hasPorts = this.#has(Capability.KVM_CAP_COALESCED_PIO) > 0;
  }

  /** @param run a vCPU's mapping: `kvm_run`, and what the kernel puts behind it */
  attach(run: DataView): void {
    const page = this.#has(Capability.KVM_CAP_COALESCED_MMIO);
    if (page <= 0) return;
    this.#ring = run;
    this.#ringAt = page * CoalescedRing.PAGE;
  }

  /** See `BusShortcuts.posted`. */
  collect(space: "ports" | "mmio", address: number, length: number): Unmap | undefined {
    if (this.#ring === undefined || (space === "ports" && !this.#hasPorts)) return undefined;
    if (!this.#register(Request.KVM_REGISTER_COALESCED_MMIO, { space, address, length })) return undefined;
    this.#zones++;
    this.#watch();
    let isRegistered = true;
    return () => {
      if (!isRegistered || this.#isClosed) return;
      isRegistered = false;
      this.#register(Request.KVM_UNREGISTER_COALESCED_MMIO, { space, address, length });
      this.#zones--;
      // What was written before counts, although the register is gone.
      this.drain();
      this.#watch();
    };
  }

  /** Passes on what the guest wrote so far. Throws what a handler throws. */
  drain(): void {
    const ring = this.#ring;
    if (ring === undefined || this.#zones === 0) return;
    const first = this.#ringAt + CoalescedRing.FIRST;
    const last = this.#ringAt + CoalescedRing.LAST;
    for (;;) {
      // Each time anew: a handler may come back here.
      const next = ring.getUint32(first, true);
      if (next === ring.getUint32(last, true)) return;
      const at = this.#ringAt + CoalescedRing.ENTRIES + CoalescedRing.ENTRY_BYTES * next;
      const address = ring.getUint32(at, true) + ring.getUint32(at + 4, true) * 2 ** 32;
      const length = ring.getUint32(at + 8, true);
      const bus = ring.getUint32(at + 12, true) === 0 ? this.#buses.mmio : this.#buses.ports;
      const width = partOf(length);
      const low = getValue(ring, at + 16, width);
      const high = ring.getUint32(at + 20, true);
      // The entry is read: the kernel may have it again.
      ring.setUint32(first, (next + 1) % CoalescedRing.ENTRY_COUNT, true);
      this.taken++;
      bus.write(address, width, low);
      if (length === 8) bus.write(address + 4, 4, high);
    }
  }

  /** @param isRunning whether any vCPU has a run pending */
  set(isRunning: boolean): void {
    if (isRunning === this.#isRunning) return;
    this.#isRunning = isRunning;
    if (!isRunning) this.drain();
    this.#watch();
  }

  close(): void {
    this.#isClosed = true;
    this.#zones = 0;
    this.#watch();
  }

  #watch(): void {
    if (!this.#isRunning || this.#zones === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else if (this.#timer === undefined) {
      this.#delayMs = FIRST_LOOK_MS;
      this.#arm();
    }
  }

  #arm(): void {
    this.#timer = setTimeout(() => {
      const before = this.taken;
      try {
        this.drain();
      } catch (error) {
        this.#failed(error instanceof Error ? error : new Error(String(error)));
      }
      this.#delayMs = this.taken === before ? Math.min(2 * this.#delayMs, LONGEST_MS) : FIRST_LOOK_MS;
      if (this.#timer !== undefined) this.#arm();
    }, this.#delayMs);
  }

  #has(capability: number): number {
    return ioctl(this.#vm.fd, Request.KVM_CHECK_EXTENSION, capability, "KVM_CHECK_EXTENSION");
  }

  /** Whether the kernel took it: it has room for some hundreds of zones. */
  #register(
    request: number,
    {
      space,
      address,
      length,
    }: { readonly space: "ports" | "mmio"; readonly address: number; readonly length: number },
  ): boolean {
    const { view } = this.#zone;
    view.setBigUint64(0, BigInt(address), true);
    view.setUint32(8, length, true);
    view.setUint32(12, space === "ports" ? 1 : 0, true);
    try {
      ioctlBuffer(this.#vm.fd, request, this.#zone, "a zone of coalesced writes");
      return true;
    } catch (error) {
      if (error instanceof SystemCallError && error.errno === "ENOSPC") return false;
      throw error;
    }
  }
}
