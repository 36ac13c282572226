import type { Clock, GuestMemory, MemorySlot } from "@northbridge/core/contracts";
import { FakeMemory } from "../testing/fake-memory.ts";
import type { TraceRecorder } from "./trace.ts";

/** Guest RAM of a bench: records what the device writes, and can fail or delay its accesses. */
export class BenchMemory implements GuestMemory {
  readonly #ram: FakeMemory;
  readonly #trace: TraceRecorder;
  readonly #clock: Clock;
  #toFail = 0;
  /** Of what the device read while somebody recorded. */
  #nonZeroBytesRead = 0;
  #reads = 0;
  #slow: { count: number; readonly ns: number } | undefined;

  constructor(length: number, trace: TraceRecorder, clock: Clock) {
    this.#ram = new FakeMemory(length);
    this.#trace = trace;
    this.#clock = clock;
  }

  get slots(): readonly MemorySlot[] {
    return this.#ram.slots;
  }

  /** All of it, for the test: reading and writing here is not DMA. */
  get bytes(): Uint8Array {
    return this.#ram.slots[0]?.bytes ?? new Uint8Array();
  }

  /** Bytes other than 0 that the device has read while its trace was recorded: a fuzzer wants to see it move data. */
  get nonZeroBytesRead(): number {
    return this.#nonZeroBytesRead;
  }

  /** Times that the device has read or looked at memory. */
  get reads(): number {
    return this.#reads;
  }

  /** The device's next `count` accesses find no memory. */
  failNext(count = 1): void {
    this.#toFail += count;
  }

  /**
   * What the device writes by its next `count` writes gets there that much later, for the guest and for the device:
   * a posted write that is overtaken by the interrupt behind it. Writes into views are not delayed.
   */
  delayNext(ns: number, count = 1): void {
    this.#slow = { count, ns };
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    return this.#reading() ? undefined : this.#ram.view(gpa, length);
  }

  read(gpa: number, into: Uint8Array): boolean {
    if (this.#reading() || !this.#ram.read(gpa, into)) return false;
    if (this.#trace.isRecording)
      this.#nonZeroBytesRead += into.reduce((sum, byte) => sum + Math.sign(byte), 0);
    return true;
  }

  write(gpa: number, from: Uint8Array): boolean {
    return !this.#fails() && this.#write(gpa, from);
  }

  written(gpa: number, length: number): void {
    this.#heard(true, gpa, length);
  }

  readU8(gpa: number): number {
    return this.#reading() ? 0xff : this.#ram.readU8(gpa);
  }

  readU16(gpa: number): number {
    return this.#reading() ? 0xffff : this.#ram.readU16(gpa);
  }

  readU32(gpa: number): number {
    return this.#reading() ? 0xffff_ffff : this.#ram.readU32(gpa);
  }

  writeU8(gpa: number, value: number): boolean {
    return !this.#fails() && this.#write(gpa, littleEndian(value, 1));
  }

  writeU16(gpa: number, value: number): boolean {
    return !this.#fails() && this.#write(gpa, littleEndian(value, 2));
  }

  writeU32(gpa: number, value: number): boolean {
    return !this.#fails() && this.#write(gpa, littleEndian(value, 4));
  }

  #write(gpa: number, from: Uint8Array): boolean {
    const slow = this.#slow;
    if (slow === undefined || slow.count === 0)
      return this.#heard(this.#ram.write(gpa, from), gpa, from.length);
    slow.count--;
    if (this.#ram.view(gpa, from.length) === undefined) return false;
    const bytes = from.slice();
    const arrives = this.#clock.createTimer(() => {
      this.#heard(this.#ram.write(gpa, bytes), gpa, bytes.length);
    });
    arrives.arm(this.#clock.nowNs() + slow.ns);
    return true;
  }

  #heard(isWritten: boolean, gpa: number, length: number): boolean {
    if (isWritten && this.#trace.isRecording) this.#trace.add({ kind: "dma", gpa, length });
    return isWritten;
  }

  #reading(): boolean {
    this.#reads++;
    return this.#fails();
  }

  #fails(): boolean {
    if (this.#toFail === 0) return false;
    this.#toFail--;
    return true;
  }
}

const littleEndian = (value: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, byte) => (value >>> (8 * byte)) & 0xff);
