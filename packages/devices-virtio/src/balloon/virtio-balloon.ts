import { type Clock, type IoWidth, NorthbridgeError, type ReclaimPages, type Timer } from "@northbridge/sdk";
import {
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { PageReclaimer } from "./page-reclaimer.ts";
import {
  Config,
  Feature,
  MAX_MIB,
  MAX_PAGES,
  PAGE,
  PAGES_PER_MIB,
  Queue,
  STAT_LENGTH,
  STATS,
} from "./spec.ts";

const QUEUE_SIZE = 128;
/** Guest time that a driver has to answer. */
const PATIENCE_NS = 1e9;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioBalloonStateV1 {
  readonly version: 1;
  readonly inflated: number;
  readonly deflated: number;
  readonly statistics: Readonly<Record<string, number>>;
  /** Absent in states of before pages were given back. */
  readonly reclaimed?: number;
  /** New statistics are wanted, and the guest has not been asked yet. */
  readonly isAsked?: true;
}

/**
 * Memory balloon (virtio 1.3 §5.5): a target the host sets and moves, and the guest's statistics on request. The memory
 * of pages in the balloon, and of those the guest reports as free, goes back to the host. Not modelled: free page hints,
 * poison.
 */
export class VirtioBalloon implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.BALLOON;
  readonly features: readonly number[] = [Feature.STATS_VQ, Feature.DEFLATE_ON_OOM, Feature.PAGE_REPORTING];
  readonly queues: readonly number[] = new Array<number>(5).fill(QUEUE_SIZE);
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #view: DataView;
  readonly #reclaim: ReclaimPages;
  #session: VirtioSession | undefined;
  #pages: PageReclaimer | undefined;
  #ramBytes = 0;
  #reclaimed = 0;
  #inflated = 0;
  #deflated = 0;
  #statistics: Record<string, number> = {};
  /** The driver's buffer of statistics, held until the host wants new ones. */
  #held: DescriptorChain | undefined;
  #isPaused = false;
  /** Statistics were wanted while the machine was paused. */
  #isAsked = false;
  /** Wait for new statistics: told whether there are any. */
  #waiting: ((isNew: boolean) => void)[] = [];
  readonly #clock: Clock | undefined;
  readonly #patience: Timer | undefined;

  /**
   * @param options.reclaim gives pages back to the host; without, they are zeroed
   * @param options.clock ends the wait for a driver that does not answer
   */
  constructor(
    options: {
      readonly targetMib?: number;
      readonly reclaim?: ReclaimPages | undefined;
      readonly clock?: Clock;
    } = {},
  ) {
    this.#clock = options.clock;
    this.#patience = this.#clock?.createTimer(() => {
      this.#answer(false);
    });
    this.#reclaim = options.reclaim ?? ((pages) => void pages.fill(0));
    this.#view = new DataView(this.config.buffer);
    this.#view.setUint32(Config.NUM_PAGES, (options.targetMib ?? 0) * PAGES_PER_MIB, true);
  }

  /** MiB the guest is asked to give up. */
  get targetMib(): number {
    return this.#view.getUint32(Config.NUM_PAGES, true) / PAGES_PER_MIB;
  }

  set targetMib(mib: number) {
    this.#view.setUint32(Config.NUM_PAGES, Math.round(mib * PAGES_PER_MIB), true);
    this.#session?.configChanged();
  }

  /** MiB the guest says it has given up. */
  get actualMib(): number {
    return this.#view.getUint32(Config.ACTUAL, true) / PAGES_PER_MIB;
  }

  /** The guest's statistics as last told, by name; bytes and counts. */
  get statistics(): Readonly<Record<string, number>> {
    return this.#statistics;
  }

  /** Asks the guest for new statistics; one that is paused, when it goes on. */
  requestStatistics(): void {
    const queue = this.#session?.queue(Queue.STATS);
    if (this.#isPaused) this.#isAsked = true;
    if (this.#isPaused || queue === undefined || this.#held === undefined) return;
    this.#isAsked = false;
    queue.push(this.#held, 0);
    this.#held = undefined;
    queue.flush();
  }

  /** `target MIB`; `statistics` asks the guest, and answers what it said before, with `isOld`, where it cannot or does not. */
  monitorCommand(words: readonly string[]): Promise<string> {
    const [verb, mib, ...rest] = words;
    if (verb === "statistics" && mib === undefined) {
      return this.#newStatistics().then((isNew) =>
        JSON.stringify({ ...this.statistics, actualMib: this.actualMib, ...(!isNew && { isOld: true }) }),
      );
    }
    const target = Number(mib);
    if (
      verb === "target" &&
      rest.length === 0 &&
      Number.isInteger(target) &&
      target >= 0 &&
      target <= MAX_MIB
    ) {
      this.targetMib = target;
      return Promise.resolve(`${target} MiB`);
    }
    return Promise.reject(
      new NorthbridgeError("NB_CONFIG", `expected target MIB or statistics, found ${words.join(" ")}`),
    );
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    // Drivers older than virtio 1.0 write it byte by byte.
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      if (at >= Config.ACTUAL && at < Config.ACTUAL + 4) this.config[at] = (value >>> (8 * i)) & 0xff;
    }
  }

  start(session: VirtioSession): void {
    this.#session = session;
    this.#pages = new PageReclaimer(session.memory, this.#reclaim, PAGE);
    this.#ramBytes = session.memory.slots.reduce((sum, { length }) => sum + length, 0);
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined) return;
    serve(queue, (chain) => {
      if (index === Queue.STATS) {
        this.#learn(chain);
        if (this.#held !== undefined) queue.push(this.#held, 0); // one is enough
        this.#held = chain;
        if (this.#isAsked) this.requestStatistics();
        return;
      }
      if (index === Queue.INFLATE) this.#inflate(chain);
      else if (index === Queue.DEFLATE) this.#deflated += pagesOf(chain);
      else this.#report(chain);
      queue.push(chain, 0);
    });
  }

  reset(): void {
    this.#session = undefined;
    this.#held = undefined;
    this.#isAsked = false;
    this.#statistics = {};
    this.#answer(false);
    this.#view.setUint32(Config.ACTUAL, 0, true);
  }

  resetQueue(index: number): void {
    if (index === Queue.STATS) this.#held = undefined;
  }

  pause(): void {
    this.#isPaused = true;
    this.#answer(false);
  }

  resume(): void {
    this.#isPaused = false;
    if (this.#isAsked) this.requestStatistics();
  }

  stats(): Readonly<Record<string, number>> {
    return {
      pagesInflated: this.#inflated,
      pagesDeflated: this.#deflated,
      pagesReclaimed: this.#reclaimed,
      actualMib: this.actualMib,
    };
  }

  save(): VirtioBalloonStateV1 {
    return {
      version: 1,
      inflated: this.#inflated,
      deflated: this.#deflated,
      reclaimed: this.#reclaimed,
      statistics: { ...this.#statistics },
      ...(this.#isAsked && { isAsked: true }),
    };
  }

  restore(state: unknown): void {
    const { version, inflated, deflated, statistics, reclaimed = 0, isAsked } = state as VirtioBalloonStateV1;
    expectVersion("virtioBalloon", version);
    this.#inflated = inflated;
    this.#deflated = deflated;
    this.#reclaimed = reclaimed;
    this.#statistics = { ...statistics };
    this.#isAsked = isAsked === true;
    // The buffer of statistics was in flight: the queue gives it again at the next look.
  }

  /** Numbers of pages that the guest gives up (§5.5.6). */
  #inflate(chain: DescriptorChain): void {
    const count = pagesOf(chain);
    for (let i = 0; i < count; i++) this.#pages?.add(chain.readU32(4 * i) * PAGE, PAGE);
    this.#inflated += count;
    this.#giveBack();
  }

  /** Memory that the guest has no use for now: the request's writable part is it (§5.5.6.7). */
  #report(chain: DescriptorChain): void {
    let left = this.#ramBytes; // whatever names more names some of it twice
    chain.visitWritable((gpa, length) => {
      if (length <= left) this.#pages?.add(gpa, length);
      left -= length;
    });
    this.#giveBack();
  }

  #giveBack(): void {
    this.#reclaimed += this.#pages?.flush() ?? 0;
  }

  /** Whether the guest told new ones. */
  #newStatistics(): Promise<boolean> {
    this.requestStatistics();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.push(resolve);
    if (this.#isPaused || this.#session === undefined) this.#answer(false);
    else if (this.#clock !== undefined) this.#patience?.arm(this.#clock.nowNs() + PATIENCE_NS);
    return promise;
  }

  #answer(isNew: boolean): void {
    this.#patience?.disarm();
    for (const resolve of this.#waiting.splice(0)) resolve(isNew);
  }

  #learn(chain: DescriptorChain): void {
    const told: Record<string, number> = {};
    const count = Math.min(Math.floor(chain.readableBytes / STAT_LENGTH), 2 * STATS.length);
    for (let i = 0; i < count; i++) {
      const name = STATS[chain.readU16(i * STAT_LENGTH)];
      if (name !== undefined) told[name] = chain.readU64(i * STAT_LENGTH + 2);
    }
    this.#statistics = told;
    this.#answer(true);
  }
}

const pagesOf = (chain: DescriptorChain): number => Math.min(Math.floor(chain.readableBytes / 4), MAX_PAGES);
