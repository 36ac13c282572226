import type { GuestMemory, MemorySlot } from "@northbridge/core/contracts";
import { FakeMemory } from "../testing/fake-memory.ts";
import type { TraceHeader } from "./trace-record.ts";

/** What a replayed device does to guest memory, as the replay hears of it. */
export interface ReplayMemoryListener {
  onRead(): void;
  onWritten(gpa: number, bytes: Uint8Array): void;
}

/** Guest memory of a replay: slots like the recorded machine's, filled with what the device is about to read. */
export class ReplayMemory implements GuestMemory {
  readonly #parts: readonly { readonly gpa: number; readonly end: number; readonly ram: FakeMemory }[];
  readonly #listener: ReplayMemoryListener;
  readonly slots: readonly MemorySlot[];

  constructor(layout: TraceHeader["memory"], listener: ReplayMemoryListener) {
    this.#parts = layout.map(({ gpa, length }) => ({
      gpa,
      end: gpa + length,
      ram: new FakeMemory(length, gpa),
    }));
    this.slots = layout.map(({ gpa, length, readOnly }, at) => ({
      name: `slot ${at}`,
      gpa,
      length,
      readOnly,
      bytes: this.#parts[at]?.ram.view(gpa, length) ?? new Uint8Array(),
    }));
    this.#listener = listener;
  }

  /** For the replay: puts there what the recorded device found. */
  fill(gpa: number, bytes: Uint8Array): void {
    this.#at(gpa).view(gpa, bytes.length)?.set(bytes);
  }

  view(gpa: number, length: number): Uint8Array | undefined {
    this.#listener.onRead();
    return this.#at(gpa).view(gpa, length);
  }

  read(gpa: number, into: Uint8Array): boolean {
    this.#listener.onRead();
    return this.#at(gpa).read(gpa, into);
  }

  readU8(gpa: number): number {
    this.#listener.onRead();
    return this.#at(gpa).readU8(gpa);
  }

  readU16(gpa: number): number {
    this.#listener.onRead();
    return this.#at(gpa).readU16(gpa);
  }

  readU32(gpa: number): number {
    this.#listener.onRead();
    return this.#at(gpa).readU32(gpa);
  }

  write(gpa: number, from: Uint8Array): boolean {
    return this.#isWritable(gpa) && this.#at(gpa).write(gpa, from) && this.#wrote(gpa, from.length);
  }

  written(gpa: number, length: number): void {
    if (this.#at(gpa).view(gpa, length) !== undefined) this.#wrote(gpa, length);
  }

  writeU8(gpa: number, value: number): boolean {
    return this.#isWritable(gpa) && this.#at(gpa).writeU8(gpa, value) && this.#wrote(gpa, 1);
  }

  writeU16(gpa: number, value: number): boolean {
    return this.#isWritable(gpa) && this.#at(gpa).writeU16(gpa, value) && this.#wrote(gpa, 2);
  }

  writeU32(gpa: number, value: number): boolean {
    return this.#isWritable(gpa) && this.#at(gpa).writeU32(gpa, value) && this.#wrote(gpa, 4);
  }

  #wrote(gpa: number, length: number): true {
    this.#listener.onWritten(gpa, this.#at(gpa).view(gpa, length) ?? new Uint8Array());
    return true;
  }

  #isWritable(gpa: number): boolean {
    return !this.slots.some((slot) => slot.readOnly && gpa >= slot.gpa && gpa < slot.gpa + slot.length);
  }

  #at(gpa: number): FakeMemory {
    return this.#parts.find((part) => gpa >= part.gpa && gpa < part.end)?.ram ?? NOWHERE;
  }
}

/** Where there is no memory. */
const NOWHERE = new FakeMemory(0, -1);
