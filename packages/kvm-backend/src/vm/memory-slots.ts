import {
  close,
  createMemfd,
  ioctlBuffer,
  MOST_MAPPED_BYTES,
  type OwnedDescriptor,
  PAGE_SIZE,
  RootedBuffer,
  SharedMapping,
} from "@northbridge/linux";
import {
  checkMemorySlot,
  type DirtyLog,
  type MemorySlot,
  NorthbridgeError,
  type SlotRequest,
} from "@northbridge/sdk";
import { IDENTITY_MAP_ADDRESS, MemoryFlag, Request, SizeOf } from "../abi/spec.ts";
import type { DirtyRings } from "./dirty-ring.ts";

const MIB = 2 ** 20;
/** Guest-physical pages that KVM takes for itself: the identity map and behind it the TSS. */
const KEPT_BY_KVM: SlotRequest = {
  name: "pages that KVM keeps",
  gpa: IDENTITY_MAP_ADDRESS,
  length: 4 * PAGE_SIZE,
};

interface PlacedSlot extends MemorySlot {
  readonly number: number;
  readonly fd: number;
  readonly mapping: SharedMapping;
  /** One bit a page: KVM's answer, and what is known to be written beside it: by host code, and from dirty rings. */
  readonly log: RootedBuffer;
  readonly written: Uint8Array;
}

/** The guest's memory: one memfd a slot, mapped where every thread of JavaScript sees it. */
export class MemorySlots implements DirtyLog {
  readonly #vm: OwnedDescriptor;
  readonly #limit: number;
  readonly #rings: DirtyRings | undefined;
  readonly #flush: () => void;
  readonly #slots: PlacedSlot[] = [];
  readonly #region = new RootedBuffer(SizeOf.kvm_userspace_memory_region);
  readonly #query = new RootedBuffer(SizeOf.kvm_dirty_log);
  #isLogging = false;

  /**
   * @param deps.rings where the kernel logs pages in rings instead of in a bitmap a slot
   * @param deps.flush has every vCPU leave the guest for a moment, so that what it wrote is in its ring
   */
  constructor(deps: {
    readonly vm: OwnedDescriptor;
    readonly limit: number;
    readonly rings: DirtyRings | undefined;
    readonly flush: () => void;
  }) {
    this.#vm = deps.vm;
    this.#limit = deps.limit;
    this.#rings = deps.rings;
    this.#flush = deps.flush;
  }

  /** Throws `NB_MEMORY`. */
  add(slot: SlotRequest & { readonly readOnly?: boolean }): MemorySlot {
    const { name, gpa, length } = slot;
    checkMemorySlot(slot, {
      backend: "this KVM",
      most: this.#limit + 1,
      slots: [...this.#slots, KEPT_BY_KVM],
    });
    if (length > MOST_MAPPED_BYTES)
      throw new NorthbridgeError(
        "NB_MEMORY",
        `memory slot ${name}: a process maps at most ${MOST_MAPPED_BYTES / MIB} MiB in one piece, found ${length / MIB}`,
      );
    const fd = createMemfd(name, length);
    let mapping: SharedMapping | undefined;
    try {
      mapping = new SharedMapping(fd, length, `memory slot ${name}`);
      const logBytes = Math.ceil(length / PAGE_SIZE / 64) * 8;
      const placed: PlacedSlot = {
        name,
        gpa,
        length,
        readOnly: slot.readOnly ?? false,
        bytes: new Uint8Array(mapping.buffer, 0, length),
        number: this.#slots.length,
        fd,
        mapping,
        log: new RootedBuffer(logBytes),
        written: new Uint8Array(logBytes),
      };
      this.#publish(placed);
      this.#slots.push(placed);
      return placed;
    } catch (error) {
      mapping?.unmap();
      close(fd);
      throw error;
    }
  }

  /** Host code wrote guest memory. What is not memory in the range is skipped. */
  written(gpa: number, length: number): void {
    if (!this.#isLogging) return;
    for (const slot of this.#slots) {
      const from = Math.max(gpa, slot.gpa) - slot.gpa;
      const to = Math.min(gpa + length, slot.gpa + slot.length) - slot.gpa;
      for (let page = Math.floor(from / PAGE_SIZE); page * PAGE_SIZE < to; page++) mark(slot, page);
    }
  }

  enable(): void {
    this.#isLogging = true;
    for (const slot of this.#slots) this.#publish(slot);
    this.#rings?.collect(() => undefined); // of an earlier time
    for (const slot of this.#slots) slot.written.fill(0);
  }

  disable(): void {
    this.#isLogging = false;
    for (const slot of this.#slots) this.#publish(slot);
  }

  harvest(): number[] {
    const pages: number[] = [];
    if (!this.#isLogging) return pages;
    if (this.#rings !== undefined) this.#flush();
    this.collectRings();
    for (const slot of [...this.#slots].sort((a, b) => a.gpa - b.gpa)) {
      if (this.#rings === undefined) this.#readBitmap(slot);
      const first = slot.gpa / PAGE_SIZE;
      slot.log.bytes.forEach((byte, i) => {
        const both = byte | (slot.written[i] ?? 0);
        for (let bit = 0; bit < 8; bit++) if ((both & (1 << bit)) !== 0) pages.push(first + 8 * i + bit);
      });
      slot.written.fill(0);
    }
    return pages;
  }

  /** Makes room in the vCPUs' rings. Returns whether there was anything in them. */
  collectRings(): boolean {
    const dirty = (number: number, page: number): void => {
      const slot = this.#slots[number];
      if (slot !== undefined) mark(slot, page);
    };
    return this.#rings?.collect(dirty) ?? false;
  }

  /** A copy of guest-physical memory as far as it is there. */
  peek(gpa: number, length: number): Uint8Array {
    const slot = this.#slots.find(
      (candidate) => gpa >= candidate.gpa && gpa < candidate.gpa + candidate.length,
    );
    return slot === undefined
      ? new Uint8Array()
      : slot.bytes.slice(gpa - slot.gpa, Math.min(gpa - slot.gpa + length, slot.length));
  }

  close(): void {
    this.#rings?.close();
    for (const slot of this.#slots.splice(0)) {
      slot.mapping.unmap();
      close(slot.fd);
    }
  }

  #readBitmap(slot: PlacedSlot): void {
    this.#query.view.setUint32(0, slot.number, true);
    this.#query.view.setBigUint64(8, slot.log.address, true);
    slot.log.lend(() =>
      ioctlBuffer(this.#vm.fd, Request.KVM_GET_DIRTY_LOG, this.#query, `dirty log of ${slot.name}`),
    );
  }

  #publish(slot: PlacedSlot): void {
    const { view } = this.#region;
    view.setUint32(0, slot.number, true);
    view.setUint32(
      4,
      (this.#isLogging ? MemoryFlag.LOG_DIRTY_PAGES : 0) | (slot.readOnly ? MemoryFlag.READONLY : 0),
      true,
    );
    view.setBigUint64(8, BigInt(slot.gpa), true);
    view.setBigUint64(16, BigInt(slot.length), true);
    view.setBigUint64(24, slot.mapping.address, true);
    ioctlBuffer(this.#vm.fd, Request.KVM_SET_USER_MEMORY_REGION, this.#region, `memory slot ${slot.name}`);
  }
}

function mark(slot: PlacedSlot, page: number): void {
  slot.written[page >> 3] = (slot.written[page >> 3] ?? 0) | (1 << (page & 7));
}
