import {
  ioctl,
  ioctlBuffer,
  type OwnedDescriptor,
  PAGE_SIZE,
  RootedBuffer,
  SharedMapping,
  SystemCallError,
} from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import { Capability, DirtyGfn, Request, SizeOf } from "../abi/spec.ts";

interface Ring {
  readonly mapping: SharedMapping;
  readonly words: Int32Array<SharedArrayBuffer>;
  /** Entry that is next to be read. */
  next: number;
}

/**
 * Pages that vCPUs wrote, in rings that the kernel fills: what costs is what was written, not how much memory there is.
 * A vCPU whose ring is full stops until it has been read.
 */
export class DirtyRings {
  readonly #vm: OwnedDescriptor;
  readonly #entries: number;
  readonly #rings: Ring[] = [];

  /**
   * Turns rings on in a VM that has no vCPU yet. Throws `NB_BACKEND` where this KVM has none.
   * @param entries of each ring: a power of two
   */
  constructor(vm: OwnedDescriptor, entries: number) {
    this.#vm = vm;
    this.#entries = entries;
    const capability = [Capability.KVM_CAP_DIRTY_LOG_RING_ACQ_REL, Capability.KVM_CAP_DIRTY_LOG_RING].find(
      (candidate) => ioctl(vm.fd, Request.KVM_CHECK_EXTENSION, candidate, "dirty rings") > 0,
    );
    if (capability === undefined) throw new NorthbridgeError("NB_BACKEND", "this KVM has no dirty rings");
    const enable = new RootedBuffer(SizeOf.kvm_enable_cap);
    enable.view.setUint32(0, capability, true);
    enable.view.setBigUint64(8, BigInt(entries * DirtyGfn.BYTES), true);
    try {
      ioctlBuffer(vm.fd, Request.KVM_ENABLE_CAP, enable, "dirty rings");
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      throw new NorthbridgeError("NB_BACKEND", `dirtyRing: this KVM takes no rings of ${entries} entries`, {
        cause: error,
      });
    }
  }

  /** Maps a new vCPU's ring. */
  add(vcpu: number, index: number): void {
    const offset = DirtyGfn.PAGE_OFFSET * PAGE_SIZE;
    const mapping = new SharedMapping(
      vcpu,
      this.#entries * DirtyGfn.BYTES,
      `dirty ring of vCPU ${index}`,
      offset,
    );
    this.#rings.push({ mapping, words: new Int32Array(mapping.buffer), next: 0 });
  }

  /** Reads what is in the rings and gives them back to the kernel. Returns whether there was anything. */
  collect(dirty: (slot: number, page: number) => void): boolean {
    let isAnyRead = false;
    for (const ring of this.#rings) {
      for (;;) {
        const at = (DirtyGfn.BYTES / 4) * ring.next;
        if ((Atomics.load(ring.words, at) & DirtyGfn.DIRTY) === 0) break;
        const page = (ring.words[at + 2] ?? 0) + (ring.words[at + 3] ?? 0) * 2 ** 32;
        dirty(ring.words[at + 1] ?? 0, page);
        Atomics.store(ring.words, at, DirtyGfn.RESET);
        ring.next = (ring.next + 1) % this.#entries;
        isAnyRead = true;
      }
    }
    if (isAnyRead) ioctl(this.#vm.fd, Request.KVM_RESET_DIRTY_RINGS, 0, "KVM_RESET_DIRTY_RINGS");
    return isAnyRead;
  }

  close(): void {
    for (const { mapping } of this.#rings.splice(0)) mapping.unmap();
  }
}
