import type { GuestMemory, MemorySlot } from "@northbridge/core/contracts";
import { FakeMemory } from "../testing/fake-memory.ts";
import type { TraceRecorder } from "./trace.ts";

/** Guest RAM of a bench: records what the device writes, and can fail its accesses. */
export class BenchMemory implements GuestMemory {
  readonly #ram: FakeMemory;
  readonly #trace: TraceRecorder;
  #toFail = 0;

  constructor(length: number, trace: TraceRecorder) {
    this.#ram = new FakeMemory(length);
    this.#trace = trace;
  }

  get slots(): readonly MemorySlot[] {
    return this.#ram.slots;
  }

  /** All of it, for the test: reading and writing here is not DMA. */
  get bytes(): Uint8Array {
    return this.#ram.slots[0]?.bytes ?? new Uint8Array();
  }

  /** The device's next `count` accesses find no memory. */
  failNext(count = 1): void {
    this.#toFail += count;
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    return this.#fails() ? undefined : this.#ram.view(gpa, length);
  }

  read(gpa: number, into: Uint8Array): boolean {
    return !this.#fails() && this.#ram.read(gpa, into);
  }

  write(gpa: number, from: Uint8Array): boolean {
    return !this.#fails() && this.#heard(this.#ram.write(gpa, from), gpa, from.length);
  }

  written(gpa: number, length: number): void {
    this.#heard(true, gpa, length);
  }

  readU8(gpa: number): number {
    return this.#fails() ? 0xff : this.#ram.readU8(gpa);
  }

  readU16(gpa: number): number {
    return this.#fails() ? 0xffff : this.#ram.readU16(gpa);
  }

  readU32(gpa: number): number {
    return this.#fails() ? 0xffff_ffff : this.#ram.readU32(gpa);
  }

  writeU8(gpa: number, value: number): boolean {
    return !this.#fails() && this.#heard(this.#ram.writeU8(gpa, value), gpa, 1);
  }

  writeU16(gpa: number, value: number): boolean {
    return !this.#fails() && this.#heard(this.#ram.writeU16(gpa, value), gpa, 2);
  }

  writeU32(gpa: number, value: number): boolean {
    return !this.#fails() && this.#heard(this.#ram.writeU32(gpa, value), gpa, 4);
  }

  #heard(isWritten: boolean, gpa: number, length: number): boolean {
    if (isWritten && this.#trace.isRecording) this.#trace.add({ kind: "dma", gpa, length });
    return isWritten;
  }

  #fails(): boolean {
    if (this.#toFail === 0) return false;
    this.#toFail--;
    return true;
  }
}
