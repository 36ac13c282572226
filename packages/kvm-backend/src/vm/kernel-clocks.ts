import { ioctlBuffer, RootedBuffer } from "@northbridge/linux";
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
  readonly #vm: number;
  readonly #clock = new RootedBuffer(SizeOf.kvm_clock_data);
  readonly #pit: RootedBuffer | undefined;

  constructor(vm: number, hasPit: boolean) {
    this.#vm = vm;
    this.#pit = hasPit ? new RootedBuffer(SizeOf.kvm_pit_state2) : undefined;
  }

  save(): KernelClocksStateV1 {
    ioctlBuffer(this.#vm, Request.KVM_GET_CLOCK, this.#clock, "KVM_GET_CLOCK");
    const clockNs = this.#clock.view.getBigUint64(0, true);
    if (this.#pit === undefined) return { version: 1, clockNs };
    ioctlBuffer(this.#vm, Request.KVM_GET_PIT2, this.#pit, "KVM_GET_PIT2");
    return { version: 1, clockNs, pit: toBase64(this.#pit.bytes) };
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
    this.#clock.bytes.fill(0);
    this.#clock.view.setBigUint64(0, saved.clockNs, true);
    ioctlBuffer(this.#vm, Request.KVM_SET_CLOCK, this.#clock, "KVM_SET_CLOCK");
    if (this.#pit === undefined || saved.pit === undefined) return;
    this.#pit.bytes.set(fromBase64("kvm: pit", saved.pit, SizeOf.kvm_pit_state2));
    ioctlBuffer(this.#vm, Request.KVM_SET_PIT2, this.#pit, "KVM_SET_PIT2");
  }
}
