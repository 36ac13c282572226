import type { GuestMemory, IoWidth } from "@northbridge/sdk";
import {
  type DeviceQueue,
  FeatureSet,
  JudgedDevice,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { VhostFeature } from "../protocol/spec.ts";
import type { Inflight } from "./inflight-region.ts";

const { Feature, DeviceId } = virtioSpec;

/** Bits a driver may have agreed on with its machine and that are nothing to a back end. */
const IRRELEVANT: ReadonlySet<number> = new Set([24, 27, Feature.ORDER_PLATFORM, Feature.RING_RESET]);

/** Kinds whose front ends have a configuration space of their own: they take no back end's. */
const OWN_CONFIG: ReadonlySet<number> = new Set([DeviceId.NET, DeviceId.SCSI, DeviceId.FS]);

/** Features of a network card's control queue (virtio 1.3 §5.1.3), which stays with the front end. */
const [CTRL_VQ, MQ] = [17, 22];
const CONTROL_QUEUE: ReadonlySet<number> = new Set([2, CTRL_VQ, 18, 19, 20, 21, 23]);

/** Requests a device is shown in a turn, in sizes of the queue. */
const TURN = 4;

/** Who hears of what a device does: the connection there is. */
export interface DeviceListener {
  configChanged(): void;
  /** A driver's mistake has ended all queues. */
  failed(reason: string): void;
}

/** Where a queue was when it stopped: as the front end was told, and as the used ring says. */
export interface StopPosition {
  readonly told: number;
  readonly used: number;
  /** What is in flight, where going back in the available ring does not bring it again. */
  readonly overtaken: Inflight | undefined;
  /** Of the ring, in descriptors: one of another size is another ring. */
  readonly size: number;
}

/**
 * A virtio device that outlives the connections of its front ends. A front end that comes back with the same features
 * and with every queue where it stopped goes on with the device as it is; any other one finds it reset
 * (docs/adr/0022).
 */
export class ServedDevice {
  readonly device: VirtioDevice;
  readonly #judged: JudgedDevice;
  readonly offered: FeatureSet;
  readonly counts: Map<string, number> = new Map<string, number>();
  #listener: DeviceListener | undefined;
  #memory: GuestMemory | undefined;
  #features = new FeatureSet();
  #state: "reset" | "running" | "paused" = "reset";
  #hasFailed = false;
  /** The device itself, and not its driver, made a mistake. */
  #isBroken = false;
  readonly #queues: (DeviceQueue | undefined)[] = [];
  /** Queues with more requests than fit into one turn. */
  readonly #starved = new Set<number>();
  #turn: NodeJS.Immediate | undefined;
  readonly #stops: (StopPosition | undefined)[] = [];
  #requests = 0;

  constructor(
    device: VirtioDevice,
    options: { readonly name: string; readonly packed: boolean; readonly inOrder: boolean },
  ) {
    this.device = device;
    this.#judged = new JudgedDevice(options.name, device);
    const isCard = device.deviceId === DeviceId.NET;
    this.offered = FeatureSet.of([
      ...device.features.filter((feature) => !(isCard && CONTROL_QUEUE.has(feature))),
      Feature.VERSION_1,
      Feature.INDIRECT_DESC,
      Feature.EVENT_IDX,
      VhostFeature.LOG_ALL,
      VhostFeature.PROTOCOL_FEATURES,
      ...(options.packed ? [Feature.RING_PACKED] : []),
      ...(options.inOrder ? [Feature.IN_ORDER] : []),
    ]);
  }

  /** Queues a front end may ask for: of a network card, pairs of them (vhost-user: Multiple queue support). */
  get queueNum(): number {
    const { deviceId, queues } = this.device;
    return deviceId === DeviceId.NET ? queues.length >> 1 : queues.length;
  }

  /** Whether a front end gets the configuration space from here. */
  get hasConfig(): boolean {
    return this.device.config.length > 0 && !OWN_CONFIG.has(this.device.deviceId);
  }

  listen(listener: DeviceListener | undefined): void {
    this.#listener = listener;
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** What of the front end's choice matters here; a word where it cannot be. */
  accept(chosen: FeatureSet): FeatureSet | string {
    const bits: number[] = [];
    for (let bit = 0; bit < 64; bit++) {
      if (!chosen.has(bit)) continue;
      if (this.offered.has(bit)) bits.push(bit);
      else if (!IRRELEVANT.has(bit)) return `feature${bit}`;
    }
    const features = FeatureSet.of(bits);
    if (!features.has(Feature.VERSION_1)) return "featureVersion1Missing";
    // Queue pairs need a control queue: it is the front end's.
    const agreed = features.has(MQ) ? FeatureSet.of([...bits, CTRL_VQ]) : features;
    return this.#judged.acceptFeatures(agreed) ? features : "featuresRefused";
  }

  /**
   * Before the first queue opens: starts the device, or lets it go on.
   * @param bases by queue, where the front end set one
   */
  async start(
    features: FeatureSet,
    memory: GuestMemory,
    bases: readonly (number | undefined)[],
  ): Promise<void> {
    if (this.#state !== "reset" && !this.#canGoOn(features, bases)) await this.reset();
    this.#features = features;
    this.#memory = memory;
    if (this.#state === "reset") {
      this.#guard(() => {
        this.#judged.start(this.#session);
      });
      this.#state = "running";
    }
  }

  /** The memory is elsewhere; no queue is open. */
  setMemory(memory: GuestMemory): void {
    this.#memory = memory;
  }

  /** What the device sees of a queue from now on. */
  setQueue(index: number, queue: DeviceQueue | undefined): void {
    this.#queues[index] = queue;
    this.#guard(() => {
      this.#judged.useQueues(this.device.queues.map((_, each) => this.#queues[each] !== undefined));
    });
  }

  stoppedAt(index: number, position: StopPosition): void {
    this.#stops[index] = position;
  }

  /** Whether a queue that opens at this base, where the front end set one, can be the one that stopped. */
  goesOnAt(index: number, base: number | undefined): boolean {
    const stop = this.#stops[index];
    return stop === undefined || base === undefined || base === stop.told || base === stop.used;
  }

  /** A queue opens: what was in flight when it stopped, if only this device knows. */
  opened(index: number, size: number): Inflight | undefined {
    const stop = this.#stops[index];
    this.#stops[index] = undefined;
    return stop?.size === size ? stop.overtaken : undefined;
  }

  requested(): void {
    this.#requests++;
  }

  /** Has the device look at a queue: at so many of its requests that others have their turn. */
  notify(index: number): void {
    const queue = this.#queues[index];
    if (this.#state !== "running" || queue === undefined || this.#isBroken) return;
    queue.limit(TURN * queue.size);
    this.#guard(() => {
      this.#judged.notify(index);
    });
    if (!queue.unlimit()) return;
    this.#starved.add(index);
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      const queues = [...this.#starved];
      this.#starved.clear();
      for (const each of queues) this.notify(each);
    });
  }

  /** Resolves once nothing of the host's touches the front end's memory. */
  async pause(): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "paused";
    await this.#guardLong(() => this.#judged.pause());
  }

  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    this.#guard(() => {
      this.#judged.resume();
    });
  }

  async reset(): Promise<void> {
    this.#queues.length = 0;
    this.#stops.length = 0;
    this.#requests = 0;
    this.#hasFailed = false;
    this.#isBroken = false;
    if (this.#state === "reset") return;
    const wasPaused = this.#state === "paused";
    this.#state = "reset";
    await this.#guardLong(() => this.#judged.reset());
    if (wasPaused) {
      this.#guard(() => {
        this.#judged.resume();
      });
    }
  }

  /** @param detail what a person should read, where the reason does not say it */
  fail(reason: string, detail: string = reason): void {
    this.count(`needsReset.${reason}`);
    for (const queue of this.#queues) queue?.close();
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#listener?.failed(detail);
  }

  /** The driver wrote to the configuration space. */
  writeConfig(offset: number, width: IoWidth, value: number): void {
    this.#guard(() => {
      this.#judged.writeConfig(offset, width, value);
    });
  }

  /**
   * Runs what a device must not fail in: one that does is in need of a reset (DEVICE_NEEDS_RESET, and the error events of
   * its rings), asked for nothing more until it has had that, and its host goes on.
   */
  #guard(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#broke(error);
    }
  }

  async #guardLong(run: () => void | Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.#broke(error);
    }
  }

  #broke(error: unknown): void {
    this.#isBroken = true;
    this.fail("deviceThrew", error instanceof Error ? error.message : String(error));
  }

  #canGoOn(features: FeatureSet, bases: readonly (number | undefined)[]): boolean {
    if (this.#hasFailed || features.low !== this.#features.low || features.high !== this.#features.high)
      return false;
    if (this.#stops.some((_, index) => !this.goesOnAt(index, bases[index]))) return false;
    // Where the first ring was never used, the others tell when they open. All at 0 after requests is as good as always
    // a new driver's.
    const moved = this.#stops.some((stop, index) => (stop?.told ?? 0) !== 0 && bases[index] !== 0);
    return moved || this.#requests === 0;
  }

  readonly #session: VirtioSession = ((): VirtioSession => {
    const features = (): FeatureSet => this.#features;
    const memory = (): GuestMemory => {
      if (this.#memory === undefined) throw new Error("a device asked for memory outside of a session");
      return this.#memory;
    };
    return {
      get features() {
        return features();
      },
      get memory() {
        return memory();
      },
      queue: (index) => this.#queues[index],
      configChanged: () => this.#listener?.configChanged(),
      fail: (reason) => {
        this.fail(reason);
      },
    };
  })();
}
