import { ioctlBuffer, type OwnedDescriptor, RootedBuffer } from "@northbridge/linux";
import { RestoreError, type Snapshottable } from "@northbridge/sdk";
import { Request, SizeOf } from "../abi/spec.ts";
import { fromBase64, toBase64 } from "../vcpu/base64.ts";

/** Saved form, version 1. */
interface KernelClocksStateV1 {
  readonly version: 1;
  /** Nanoseconds that kvm-clock shows the guest. */
  readonly clockNs: bigint;
  /** `kvm_pit_state2`, base64, where the i8254 is in the kernel. */
  readonly pit?: string;
}

/** Time that the kernel keeps for a guest: kvm-clock, and the i8254 where it is there. */
export class KernelClocks implements Snapshottable<unknown> {
  readonly #vm: OwnedDescriptor;
  readonly #clock = new RootedBuffer(SizeOf.kvm_clock_data);
  readonly #pit: RootedBuffer | undefined;
  readonly #pitAtPowerOn: Uint8Array | undefined;
  /** kvm-clock while guest time stands still. */
  #heldNs: bigint | undefined;

  constructor(vm: OwnedDescriptor, hasPit: boolean) {
    this.#vm = vm;
    this.#pit = hasPit ? new RootedBuffer(SizeOf.kvm_pit_state2) : undefined;
    if (this.#pit !== undefined) this.#pitAtPowerOn = this.#getPit(this.#pit).slice();
  }

  /** Guest time stops. */
  hold(): void {
    this.#heldNs ??= this.#clockNs();
  }

  /** Guest time goes on from where it stopped. */
  release(): void {
    if (this.#heldNs !== undefined) this.#setClock(this.#heldNs);
    this.#heldNs = undefined;
  }

  /** A reset of the guest: it sets its i8254 up again, and kvm-clock goes on. */
  reset(): void {
    if (this.#pit !== undefined && this.#pitAtPowerOn !== undefined)
      this.#setPit(this.#pit, this.#pitAtPowerOn);
  }

  save(): KernelClocksStateV1 {
    const clockNs = this.#heldNs ?? this.#clockNs();
    if (this.#pit === undefined) return { version: 1, clockNs };
    return { version: 1, clockNs, pit: toBase64(this.#getPit(this.#pit)) };
  }

  restore(state: unknown): void {
    const saved = state as Partial<KernelClocksStateV1> | null;
    if (saved?.version !== 1 || typeof saved.clockNs !== "bigint")
      throw new RestoreError(
        "kvm",
        `expected version 1 with clockNs, found version ${String(saved?.version)}`,
      );
    if ((saved.pit === undefined) !== (this.#pit === undefined)) {
      const found = saved.pit === undefined ? "without" : "with";
      throw new RestoreError(
        "kvm",
        `the machine was saved ${found} an i8254 in the kernel: kernelPit differs`,
      );
    }
    this.#setClock(saved.clockNs);
    if (this.#heldNs !== undefined) this.#heldNs = saved.clockNs;
    if (this.#pit !== undefined && saved.pit !== undefined)
      this.#setPit(this.#pit, fromBase64("kvm: pit", saved.pit, SizeOf.kvm_pit_state2));
  }

  #clockNs(): bigint {
    ioctlBuffer(this.#vm.fd, Request.KVM_GET_CLOCK, this.#clock, "KVM_GET_CLOCK");
    return this.#clock.view.getBigUint64(0, true);
  }

  #setClock(ns: bigint): void {
    this.#clock.bytes.fill(0);
    this.#clock.view.setBigUint64(0, ns, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_SET_CLOCK, this.#clock, "KVM_SET_CLOCK");
  }

  #getPit(pit: RootedBuffer): Uint8Array {
    ioctlBuffer(this.#vm.fd, Request.KVM_GET_PIT2, pit, "KVM_GET_PIT2");
    return pit.bytes;
  }

  #setPit(pit: RootedBuffer, state: Uint8Array): void {
    pit.bytes.set(state);
    ioctlBuffer(this.#vm.fd, Request.KVM_SET_PIT2, pit, "KVM_SET_PIT2");
  }
}
