import { VirtioBench } from "@northbridge/sdk/testing";
import { virtioSpec } from "@northbridge/sdk/virtio";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { RUNS, tell, TIMEOUT_MS } from "./campaign.ts";
import { buffersOf, type DrivenDevice, drivenDevices, type DrivenHost } from "./driven/index.ts";
import { RINGS } from "./rings.ts";
import { WitnessMemory } from "./witness-memory.ts";

const MOST_OPS = 60;
const PAGE = 0x1000;
/** Buffers end in the middle of their pages, most of them. */
const PAGES = 16;
const bytes = new Uint8Array(new SharedArrayBuffer(1 << 18));

// Valid requests slightly broken: uniform bytes are refused at the first look.
const value = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 4, 8, 16, 0x40, 0x80, 0x8000, 0xffff, 0x1000),
  fc.nat(0xffff),
);

const op = (driven: DrivenDevice) =>
  fc.oneof(
    {
      weight: 16,
      arbitrary: fc.record({
        do: fc.constant("add" as const),
        queue: fc.nat(8),
        head: driven.head,
        buffers: buffersOf(driven, 30),
        misplaced: fc.boolean(),
        indirect: fc.boolean(),
        notify: fc.boolean(),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant("poke" as const), queue: fc.nat(8), at: fc.nat(200), value }),
    },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("notify" as const), queue: fc.nat(9) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("collect" as const), queue: fc.nat(8) }) },
    { weight: 8, arbitrary: fc.record({ do: fc.constant("act" as const), choice: fc.nat(5000) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("status" as const),
        value: fc.constantFrom(0, 1, 3, 7, 11, 15, 0x8f, 0xff),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("restart" as const), refuses: fc.nat(63) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("config" as const), offset: fc.nat(64), value }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("reset" as const), queue: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("enable" as const), queue: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("disable" as const), queue: fc.nat(8) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("pause" as const), resumes: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("save" as const) }) },
  );
type Op = ReturnType<typeof op> extends fc.Arbitrary<infer T> ? T : never;

/** A driver, its memory and its device. */
class Scene {
  readonly memory = new WitnessMemory(bytes);
  readonly bench: VirtioBench;
  isBroken = false;
  readonly #driven: DrivenDevice;
  readonly #host: DrivenHost;
  readonly #arena: number;
  #next = 0;

  constructor(driven: DrivenDevice, options: (typeof RINGS)[number]) {
    this.#driven = driven;
    this.#host = driven.host();
    this.bench = new VirtioBench(this.#host.device(), {
      memory: this.memory,
      ...options,
      queueSize: 8,
    }).start();
    this.#arena = Math.ceil(this.bench.alloc(0) / PAGE) * PAGE;
    this.#addRings();
    this.memory.begin();
  }

  /** Resolves once no host operation touches guest memory any more, which a reset waits for. */
  async reset(): Promise<void> {
    const { endpoint } = this.bench;
    endpoint.setStatus(0);
    await this.#host.answers?.answerAll(1);
    for (let i = 0; i < 1000 && endpoint.status !== 0; i++) await Promise.resolve();
    expect(endpoint.status).toBe(0);
  }

  async carryOut(o: Op): Promise<void> {
    const { bench, memory } = this;
    const { endpoint } = bench;
    switch (o.do) {
      case "add":
        // A driver that starts again gets further than one that has lost its device.
        if (o.notify && (endpoint.status & virtioSpec.Status.DEVICE_NEEDS_RESET) !== 0) await this.#restart();
        this.#add(o);
        break;
      case "poke":
        this.isBroken = true;
        memory.drive(() => {
          const { addresses } = bench.queue(o.queue % bench.queues.length);
          memory.writeU16(addresses.desc + 2 * o.at, o.value);
        });
        this.#offer();
        break;
      case "notify":
        endpoint.notify(o.queue);
        break;
      case "collect":
        if (!this.isBroken) memory.drive(() => void bench.queue(o.queue % bench.queues.length).collect());
        break;
      case "act":
        this.#host.act?.(o.choice);
        break;
      case "status":
        endpoint.setStatus(o.value);
        break;
      case "restart":
        await this.#restart((bit) => o.refuses > 30 || bit % 31 !== o.refuses);
        break;
      case "config":
        endpoint.writeConfig(o.offset, 2, o.value);
        break;
      case "reset":
        endpoint.resetQueue(o.queue);
        break;
      case "enable":
        this.isBroken = true; // a queue that was reset is at address 0 now
        endpoint.enableQueue(o.queue);
        this.#addRings();
        this.#offer();
        break;
      case "disable":
        endpoint.disableQueue(o.queue);
        break;
      case "pause":
        if (o.resumes) endpoint.resume();
        else await this.#pause();
        break;
      case "save":
        JSON.stringify(endpoint.save());
    }
  }

  async #pause(): Promise<void> {
    const paused = this.bench.endpoint.pause();
    await this.#host.answers?.answerAll(2);
    await paused;
  }

  async #restart(accepts?: (bit: number) => boolean): Promise<void> {
    await this.reset();
    this.memory.drive(() => {
      this.bench.start(accepts);
    });
    this.#addRings();
  }

  #add(o: Op & { readonly do: "add" }): void {
    const { bench, memory } = this;
    const [readableLengths, writableLengths, wanted = o.queue] = o.buffers;
    const index = (o.misplaced ? o.queue : wanted) % bench.queues.length;
    const place = (lengths: readonly number[]) =>
      lengths.map((length) => ({ gpa: this.#arena + (this.#next++ % PAGES) * PAGE, length }));
    const [readable, writable] = [place(readableLengths), place(writableLengths)];
    const [first] = readable;
    const indirect = o.indirect ? this.#arena + (PAGES + (this.#next % 8) / 8) * PAGE : undefined;
    memory.drive(() => {
      if (first !== undefined) memory.write(first.gpa, Uint8Array.from(o.head).subarray(0, first.length));
      bench.queue(index).add(readable, writable, indirect);
    });
    this.#offer(o.head);
    if (o.notify) bench.endpoint.notify(index);
  }

  #offer(head: readonly number[] = []): void {
    const { memory, isBroken } = this;
    memory.offerRings(isBroken);
    for (const page of this.#driven.pagesIn?.(head) ?? []) memory.offer(page * PAGE, PAGE);
  }

  #addRings(): void {
    const { queues, features } = this.bench.endpoint;
    const isPacked = features.has(virtioSpec.Feature.RING_PACKED);
    for (const { addresses, size } of queues) this.memory.addRing({ addresses, size, isPacked });
  }
}

describe.each(drivenDevices)("a hostile driver of $name", (driven) => {
  let operations = 0;
  let requests = 0;
  afterAll(() => {
    tell(`${driven.name}: ${operations} operations, ${requests} requests taken`);
  });

  it.each(RINGS)(
    "is never obeyed beyond its buffers (%o)",
    async (rings) => {
      const ops = fc.array(op(driven), { maxLength: MOST_OPS, size: "max" });
      await fc.assert(
        fc.asyncProperty(fc.boolean(), ops, async (pokes, all) => {
          const scene = new Scene(driven, rings);
          const { bench, memory } = scene;
          for (const o of all) {
            if (!pokes && o.do === "poke") continue;
            await scene.carryOut(o);
            operations++;
          }
          const { requests: taken = 0 } = bench.endpoint.stats();
          requests += taken;
          expect(taken).toBeLessThan(16 * (all.length + 1));
          await scene.reset();
          // Page numbers are wherever a broken ring says they are.
          const isKnown = !(scene.isBroken && driven.pagesIn !== undefined);
          const { trespasses } = memory;
          if (isKnown && trespasses.length > 0 && !memory.isConfused) expect(trespasses).toEqual([]);
          expect(memory.unreported).toEqual([]);
          // Of a device that was reset no request is left, whatever happens at its other end.
          memory.begin();
          for (const o of all) if (o.do === "act") await scene.carryOut(o);
          expect(memory.unreported).toEqual([]);
        }),
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );
});
