import { VirtioBench } from "../../testing/virtio/virtio-bench.ts";
import { Feature, Status } from "../../virtio/spec.ts";
import type { DrivenHost, DrivenVirtioDevice } from "./driven-device.ts";
import type { HostileOperation, Rings } from "./hostile-operation.ts";
import { WitnessMemory } from "./witness-memory.ts";

const PAGE = 0x1000;
/** Buffers end in the middle of their pages, most of them. */
const PAGES = 16;
const MEMORY = 1 << 18;
/** Turns of promises that a reset may take. */
const PATIENCE = 1000;
/** Requests of a ring that says anything, per operation. */
const MOST_REQUESTS = 16;

// Used again and again, by one trial at a time: of shared memory a collector does not know how much it is.
const free: Uint8Array[] = [];

/** How far a trial went. */
export interface HostileTrialResult {
  readonly operations: number;
  /** Requests that the device took. */
  readonly requests: number;
}

/**
 * Has a hostile driver do this to a device. Rejects where the device throws, writes what it was not offered, does not
 * report what it wrote, says that it wrote more than there was room for, is kept busy without end, does not end a reset,
 * or has any of a request left after one (virtio 1.3 §2.1.2, §2.4.1, §2.7.8.2).
 */
export async function driveHostilely(
  driven: DrivenVirtioDevice,
  rings: Rings,
  operations: readonly HostileOperation[],
): Promise<HostileTrialResult> {
  const bytes = free.pop() ?? new Uint8Array(new SharedArrayBuffer(MEMORY));
  const driver = await HostileDriver.of(driven, rings, bytes);
  for (const operation of operations) await driver.carryOut(operation);
  const requests = driver.expectNotEndless(operations.length);
  await driver.reset();
  driver.expectKept();
  // Of a device that was reset no request is left, whatever happens at its other end.
  driver.memory.begin();
  for (const operation of operations) if (operation.do === "act") await driver.carryOut(operation);
  driver.expectReported();
  free.push(bytes); // a device that broke the law may have something under way there
  return { operations: operations.length, requests };
}

/** A driver, its memory and its device. */
class HostileDriver {
  readonly memory: WitnessMemory;
  readonly #bench: VirtioBench;
  readonly #driven: DrivenVirtioDevice;
  readonly #host: DrivenHost;
  readonly #arena: number;
  /** By queue and by what identifies a request: its writable bytes. */
  readonly #room: Map<number, number>[];
  /** By address of an indirect table: the request that it was for. One that takes it over takes it from that. */
  readonly #tables = new Map<number, { readonly index: number; readonly id: number }>();
  #isBroken = false;
  #next = 0;

  /** @param bytes of the guest's memory, for this trial alone */
  static async of(driven: DrivenVirtioDevice, rings: Rings, bytes: Uint8Array): Promise<HostileDriver> {
    const memory = new WitnessMemory(bytes);
    return new HostileDriver(driven, await driven.host(memory), memory, rings);
  }

  private constructor(driven: DrivenVirtioDevice, host: DrivenHost, memory: WitnessMemory, rings: Rings) {
    this.memory = memory;
    this.#driven = driven;
    this.#host = host;
    const options = { name: driven.name, memory, queueSize: 8, ...rings };
    const device = host.device();
    this.#room = device.queues.map(() => new Map<number, number>());
    this.#bench = new VirtioBench(device, options).start();
    this.#arena = Math.ceil(this.#bench.alloc(0) / PAGE) * PAGE;
    this.#addRings();
    memory.begin();
  }

  /** Resolves once no host operation touches guest memory any more, which a reset waits for. */
  async reset(): Promise<void> {
    const { endpoint } = this.#bench;
    endpoint.setStatus(0);
    await this.#host.answers?.answerAll(1);
    for (let i = 0; i < PATIENCE && endpoint.status !== 0; i++) await Promise.resolve();
    if (endpoint.status !== 0) throw new Error("a reset does not end");
  }

  /** @returns requests taken */
  expectNotEndless(operations: number): number {
    const { requests = 0 } = this.#bench.endpoint.stats();
    if (requests >= MOST_REQUESTS * (operations + 1))
      throw new Error(`${requests} requests were taken in ${operations} operations`);
    return requests;
  }

  /** The device wrote to nothing but what it was offered, and said so. */
  expectKept(): void {
    const { trespasses, isConfused } = this.memory;
    // Page numbers are wherever a broken ring says they are.
    const isKnown = !(this.#isBroken && this.#driven.pagesIn !== undefined);
    if (isKnown && trespasses.length > 0 && !isConfused)
      throw new Error(`the device wrote to what it was not offered: ${addresses(trespasses)}`);
    this.expectReported();
  }

  expectReported(): void {
    const { unreported } = this.memory;
    if (unreported.length > 0)
      throw new Error(`the device wrote without a word to the machine: ${addresses(unreported)}`);
  }

  async carryOut(operation: HostileOperation): Promise<void> {
    const { memory } = this;
    const bench = this.#bench;
    const { endpoint } = bench;
    switch (operation.do) {
      case "add":
        // A driver that starts again gets further than one that has lost its device.
        if (operation.notify && (endpoint.status & Status.DEVICE_NEEDS_RESET) !== 0) await this.#restart();
        this.#add(operation);
        break;
      case "poke":
        this.#isBroken = true;
        memory.drive(() => {
          const { addresses: places } = bench.queue(operation.queue % bench.queues.length);
          memory.writeU16(places.desc + 2 * operation.at, operation.value);
        });
        this.#offer();
        break;
      case "notify":
        endpoint.notify(operation.queue);
        break;
      case "collect":
        if (!this.#isBroken) this.#collect(operation.queue % bench.queues.length);
        break;
      case "act":
        this.#host.act?.(operation.choice);
        break;
      case "status":
        endpoint.setStatus(operation.value);
        break;
      case "restart":
        await this.#restart((bit) => operation.refuses > 30 || bit % 31 !== operation.refuses);
        break;
      case "config":
        endpoint.writeConfig(operation.offset, 2, operation.value);
        break;
      case "reset":
        endpoint.resetQueue(operation.queue);
        break;
      case "enable":
        this.#isBroken = true; // a queue that was reset is at address 0 now
        endpoint.enableQueue(operation.queue);
        this.#addRings();
        this.#offer();
        break;
      case "disable":
        endpoint.disableQueue(operation.queue);
        break;
      case "pause":
        if (operation.resumes) endpoint.resume();
        else await this.#pause();
        break;
      case "save":
        JSON.stringify(endpoint.save());
    }
  }

  async #pause(): Promise<void> {
    const paused = this.#bench.endpoint.pause();
    await this.#host.answers?.answerAll(2);
    await paused;
  }

  async #restart(accepts?: (bit: number) => boolean): Promise<void> {
    await this.reset();
    for (const room of this.#room) room.clear();
    this.memory.drive(() => {
      this.#bench.start(accepts);
    });
    this.#addRings();
  }

  #add(operation: HostileOperation & { readonly do: "add" }): void {
    const bench = this.#bench;
    const { memory } = this;
    const { head } = operation;
    const [readableLengths, writableLengths, wanted = operation.queue] = operation.buffers;
    const index = (operation.misplaced ? operation.queue : wanted) % bench.queues.length;
    const place = (lengths: readonly number[]): { readonly gpa: number; readonly length: number }[] =>
      lengths.map((length) => ({ gpa: this.#arena + (this.#next++ % PAGES) * PAGE, length }));
    const [readable, writable] = [place(readableLengths), place(writableLengths)];
    const [first] = readable;
    const indirect = operation.indirect ? this.#arena + (PAGES + (this.#next % 8) / 8) * PAGE : undefined;
    memory.drive(() => {
      if (first !== undefined) memory.write(first.gpa, Uint8Array.from(head).subarray(0, first.length));
      const id = bench.queue(index).add(readable, writable, indirect);
      if (id === undefined) return;
      if (indirect !== undefined) {
        const before = this.#tables.get(indirect);
        if (before !== undefined) this.#room[before.index]?.delete(before.id);
        this.#tables.set(indirect, { index, id });
      }
      this.#room[index]?.set(
        id,
        writableLengths.reduce((sum, length) => sum + length, 0),
      );
    });
    this.#offer(head);
    if (operation.notify) bench.endpoint.notify(index);
  }

  /** Throws where the device says that it wrote more than it was offered. */
  #collect(index: number): void {
    const { memory } = this;
    memory.drive(() => {
      for (const { id, written } of this.#bench.queue(index).collect()) {
        const room = this.#room[index]?.get(id);
        if (room !== undefined && written > room && !memory.isConfused)
          throw new Error(
            `queue ${index}: ${written} bytes are said to be written, where there is room for ${room}`,
          );
      }
    });
  }

  #offer(head: readonly number[] = []): void {
    this.memory.offerRings(this.#isBroken);
    for (const page of this.#driven.pagesIn?.(head) ?? []) this.memory.offer(page * PAGE, PAGE);
  }

  #addRings(): void {
    const { queues, features } = this.#bench.endpoint;
    const isPacked = features.has(Feature.RING_PACKED);
    for (const { addresses: places, size } of queues)
      this.memory.addRing({ addresses: places, size, isPacked });
  }
}

const MOST_ADDRESSES = 8;
const addresses = (gpas: readonly number[]): string =>
  gpas
    .slice(0, MOST_ADDRESSES)
    .map((gpa) => `0x${gpa.toString(16)}`)
    .join(", ") + (gpas.length > MOST_ADDRESSES ? ` and ${gpas.length - MOST_ADDRESSES} more bytes` : "");
