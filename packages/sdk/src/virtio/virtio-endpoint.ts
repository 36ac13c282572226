import {
  type Clock,
  type GuestMemory,
  type IoWidth,
  NorthbridgeError,
  RestoreError,
  type Timer,
} from "@northbridge/core/contracts";
import { DeviceQueue } from "./device-queue.ts";
import { FeatureSet } from "./feature-set.ts";
import { JudgedDevice } from "./judged-device.ts";
import { QueueRegisters, type QueueRegistersStateV1 } from "./queue-registers.ts";
import { Feature, MAX_QUEUE_SIZE, Status } from "./spec.ts";
import type { VirtioDevice, VirtioSession } from "./virtio-device.ts";

/** How a transport interrupts its driver. */
export interface EndpointInterrupts {
  /** Queue `index` has used buffers. */
  queue(index: number): void;
  /** The configuration space or the status has changed. */
  config(): void;
}

/** What a transport gives its endpoint. */
export interface EndpointOptions {
  /** For messages. */
  readonly name: string;
  readonly device: VirtioDevice;
  readonly memory: GuestMemory;
  readonly interrupts: EndpointInterrupts;
  /** Reserved feature bits it offers beside VERSION_1, INDIRECT_DESC, EVENT_IDX and RING_RESET: RING_PACKED, IN_ORDER … */
  readonly ringFeatures?: readonly number[];
  /**
   * For turns of the device's: with it a driver on another thread that offers requests without end is served for a while
   * at a time. @defaultValue it is served for as long as it does
   */
  readonly clock?: Clock;
}

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface EndpointStateV1 {
  readonly version: 1;
  readonly deviceId: number;
  readonly status: number;
  readonly offered: readonly [low: number, high: number];
  readonly features: readonly [low: number, high: number];
  readonly configGeneration: number;
  readonly config: readonly number[];
  readonly queues: readonly QueueRegistersStateV1[];
  readonly device: unknown;
  /** A legacy driver uses its queues and has not said DRIVER_OK yet (§3.1.2). Else absent. */
  readonly isStartedEarly?: true;
}

/** Requests a device is shown in a turn, in sizes of the queue: a driver on its thread has never more than one. */
const TURN = 4;
/** Guest time until the next turn: timers that are due at once have it before. */
const BREATH_NS = 1000;

/** Bits of the status register that a driver may set. */
const DRIVER_STATUS =
  Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK | Status.FEATURES_OK | Status.FAILED;

/**
 * The registers every transport shows in its own way (virtio 1.3 §2, §3.1): status, features, configuration space,
 * queues. Drives the device through its life and keeps it from a driver's mistakes.
 */
export class VirtioEndpoint {
  readonly device: VirtioDevice;
  readonly offered: FeatureSet;
  readonly queues: readonly QueueRegisters[];
  readonly #name: string;
  readonly #judged: JudgedDevice;
  readonly #memory: GuestMemory;
  readonly #interrupts: EndpointInterrupts;
  /** Ends a pause in the service of `#starved`: queues with more requests than fit into one turn. */
  readonly #turn: Timer | undefined;
  readonly #starved = new Set<number>();
  readonly #clock: Clock | undefined;
  readonly #faults = new Map<string, number>();
  #status = 0;
  #features = new FeatureSet();
  #configGeneration = 0;
  #isStarted = false;
  /** Resets whose host operations are still under way. */
  #resetting = 0;
  #notifications = 0;
  /** The pause of a device that was restored failed. */
  #unpaused: Error | undefined;

  constructor(options: EndpointOptions) {
    const { device, name } = options;
    this.#name = name;
    this.device = device;
    this.#judged = new JudgedDevice(name, device);
    this.#memory = options.memory;
    this.#interrupts = options.interrupts;
    this.#clock = options.clock;
    this.#turn = options.clock?.createTimer(() => {
      const queues = [...this.#starved];
      this.#starved.clear();
      for (const index of queues) if (this.#isStarted) this.#look(index);
    });
    this.offered = FeatureSet.of([
      ...device.features,
      Feature.VERSION_1,
      Feature.INDIRECT_DESC,
      Feature.EVENT_IDX,
      Feature.RING_RESET,
      ...(options.ringFeatures ?? []),
    ]);
    this.queues = device.queues.map((maxSize, index) => {
      if (!Number.isInteger(Math.log2(maxSize)) || maxSize > MAX_QUEUE_SIZE) {
        throw new NorthbridgeError(
          "NB_CONFIG",
          `${name}: queue ${index}: size ${maxSize} is not a power of two up to ${MAX_QUEUE_SIZE}`,
        );
      }
      return new QueueRegisters(maxSize);
    });
  }

  /** Device status (§2.1). While a reset is under way it does not read as 0. */
  get status(): number {
    return this.#resetting > 0 ? this.#status || Status.FAILED : this.#status;
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get configGeneration(): number {
    return this.#configGeneration;
  }

  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** The driver's write to the status register. Writing 0 resets. */
  setStatus(value: number): void {
    if (value === 0) {
      this.reset();
      return;
    }
    const old = this.#status;
    let status = old | (value & DRIVER_STATUS); // bits are set one after the other and cleared by a reset only
    if ((status & ~old & Status.FEATURES_OK) !== 0 && !this.#acceptsFeatures()) status &= ~Status.FEATURES_OK;
    this.#status = status;
    // A driver that does not wait for the end of a reset is started after it.
    if ((status & ~old & Status.DRIVER_OK) !== 0 && this.#resetting === 0) this.#startIfReady();
  }

  /** As `setStatus`, of a driver older than virtio 1.0: what it chose stands when it is ready (§3.1.2). */
  setLegacyStatus(value: number): void {
    const isReady = (value & ~this.#status & Status.DRIVER_OK) !== 0;
    if (isReady) this.#settleLegacyFeatures();
    this.setStatus(value & ~Status.FEATURES_OK);
  }

  /** The driver's choice of features, 32 bits of it. Too late after FEATURES_OK. */
  setFeatures(select: number, value: number): void {
    if ((this.#status & Status.FEATURES_OK) === 0) this.#features = this.#features.withWord(select, value);
  }

  readConfig(offset: number, width: IoWidth): number {
    const { config } = this.device;
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (config[offset + i] ?? 0);
    return value;
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    if (offset + width <= this.device.config.length) this.#judged.writeConfig(offset, width, value);
  }

  /** The driver enables a queue whose addresses and size it has written. */
  enableQueue(index: number): void {
    const registers = this.queues[index];
    if (registers === undefined || registers.isEnabled || registers.isResetting) return;
    registers.isEnabled = true;
    if (this.#isStarted) this.#open(index, registers);
  }

  /** §2.6.1. `isResetting` of the registers says when it is done. */
  resetQueue(index: number): void {
    const registers = this.queues[index];
    if (registers === undefined || registers.isResetting || !this.#features.has(Feature.RING_RESET)) return;
    registers.queue?.close();
    const done = this.#isStarted ? this.#judged.resetQueue(index) : undefined;
    registers.reset();
    if (done === undefined) return;
    registers.isResetting = true;
    const finish = (): void => {
      registers.isResetting = false;
    };
    this.#settle(done, finish);
  }

  /**
   * MMIO's way to stop a queue (§4.2.2.2): its requests are dropped. The queue reads as ready until no host operation
   * touches its buffers; the addresses may be changed then.
   */
  disableQueue(index: number): void {
    const registers = this.queues[index];
    if (registers === undefined) return;
    registers.queue?.close();
    registers.queue = undefined;
    const done = this.#isStarted ? this.#judged.resetQueue(index) : undefined;
    const finish = (): void => {
      if (registers.queue === undefined) registers.isEnabled = false; // else reset and enabled again meanwhile
    };
    this.#settle(done, finish);
  }

  /** The driver's notification. Of a queue that is not there it does nothing. */
  notify(index: number): void {
    this.#notifications++;
    if (this.#isStarted) this.#look(index);
  }

  /** As `notify`, of a driver older than virtio 1.0: it may use a queue before it says DRIVER_OK (§3.1.2). */
  notifyLegacy(index: number): void {
    const isEarly = !this.#isStarted && (this.#status & Status.DRIVER) !== 0 && this.#resetting === 0;
    if (isEarly && this.queues[index]?.isEnabled === true) {
      this.#settleLegacyFeatures();
      if ((this.#status & Status.DEVICE_NEEDS_RESET) === 0) this.#start();
    }
    this.notify(index);
  }

  /** To power-on. The status reads as 0 once no host operation touches guest memory. */
  reset(): void {
    for (const registers of this.queues) registers.queue?.close();
    const done = this.#judged.reset();
    for (const registers of this.queues) registers.reset();
    this.#isStarted = false;
    this.#status = 0;
    this.#features = new FeatureSet();
    if (done === undefined) return;
    this.#resetting++;
    const finish = (): void => {
      if (--this.#resetting === 0) this.#startIfReady();
    };
    this.#settle(done, finish);
  }

  async pause(): Promise<void> {
    if (this.#unpaused !== undefined) throw this.#unpaused;
    await this.#judged.pause();
  }

  /** Throws `NB_DEVICE` where the device was restored and could not stand still. */
  resume(): void {
    if (this.#unpaused !== undefined) throw this.#unpaused;
    this.#judged.resume();
    if (this.#isStarted) this.#lookAtQueues();
  }

  stats(): Record<string, number> {
    const stats: Record<string, number> = { notifications: this.#notifications, requests: 0, interrupts: 0 };
    for (const { stats: queue } of this.queues) {
      stats["requests"] = (stats["requests"] ?? 0) + queue.requests;
      stats["interrupts"] = (stats["interrupts"] ?? 0) + queue.interrupts;
    }
    for (const [reason, count] of this.#faults) stats[`needsReset.${reason}`] = count;
    return { ...stats, ...this.device.stats?.() };
  }

  save(): EndpointStateV1 {
    const { offered, device } = this;
    return {
      version: 1,
      deviceId: device.deviceId,
      status: this.#status,
      offered: [offered.low, offered.high],
      features: [this.#features.low, this.#features.high],
      configGeneration: this.#configGeneration,
      config: Array.from(device.config),
      queues: this.queues.map((registers) => registers.save()),
      device: device.save() ?? null,
      ...(this.#isStarted && (this.#status & Status.DRIVER_OK) === 0 && { isStartedEarly: true }),
    };
  }

  /** Of a device as it was made, which stands still until `resume`. Sends no interrupt. Throws `RestoreError`. */
  restore(state: EndpointStateV1): void {
    const { version } = state as { readonly version: unknown };
    if (version !== 1) this.#refuse(`version ${String(version)}, expected 1`);
    const { device, offered } = this;
    if (state.deviceId !== device.deviceId) {
      this.#refuse(`virtio device ${state.deviceId}, expected ${device.deviceId}`);
    }
    if (state.offered[0] !== offered.low || state.offered[1] !== offered.high) {
      const found = `offered features ${hex(state.offered)}, expected ${hex([offered.low, offered.high])}`;
      this.#refuse(`${found}: they differ in bits ${differing(offered, state.offered).join(", ")}`);
    }
    if (state.queues.length !== this.queues.length) {
      this.#refuse(`${state.queues.length} queues, expected ${this.queues.length}`);
    }
    if (state.config.length !== device.config.length) {
      this.#refuse(`${state.config.length} bytes of configuration, expected ${device.config.length}`);
    }
    this.#status = state.status;
    this.#features = new FeatureSet(...state.features);
    this.#configGeneration = state.configGeneration;
    for (const { name, offset, length } of device.identity ?? []) {
      const [own, saved] = [[...device.config], state.config].map((all) =>
        all.slice(offset, offset + length),
      );
      if (String(own) !== String(saved))
        this.#refuse(`${name}: bytes ${String(saved)}, expected ${String(own)}`);
    }
    device.config.set(state.config);
    this.queues.forEach((registers, index) => {
      const saved = state.queues[index];
      if (saved !== undefined) registers.load(this.#name, index, saved);
    });
    const isReady = (state.status & Status.DRIVER_OK) !== 0 || state.isStartedEarly === true;
    this.#isStarted = isReady && (state.status & Status.FEATURES_OK) !== 0;
    if (this.#isStarted) {
      this.queues.forEach((registers, index) => {
        if (!registers.isEnabled || (state.status & Status.DEVICE_NEEDS_RESET) !== 0) return;
        const saved = state.queues[index]?.queue;
        registers.queue = this.#queue(index, registers, (fault) => {
          this.#refuse(`queue ${index}: ${fault}`);
        });
        if (saved !== null && saved !== undefined) registers.queue.restore(saved);
      });
      this.#judged.start(this.#session);
    }
    device.restore(state.device ?? undefined);
    // With nothing under way it is at once, and nobody waits for it.
    void this.#paused().catch((error: unknown) => {
      this.#unpaused = error instanceof Error ? error : new Error(String(error));
    });
  }

  /** As `pause`, of which what is thrown at once rejects. */
  async #paused(): Promise<void> {
    await this.#judged.pause();
  }

  #acceptsFeatures(): boolean {
    const features = this.#features;
    return (
      features.isSubsetOf(this.offered) &&
      features.has(Feature.VERSION_1) &&
      this.#judged.acceptFeatures(features)
    );
  }

  #start(): void {
    this.#isStarted = true;
    this.queues.forEach((registers, index) => {
      if (registers.isEnabled) this.#open(index, registers);
    });
    if ((this.#status & Status.DEVICE_NEEDS_RESET) !== 0) {
      for (const registers of this.queues) registers.queue?.close();
    }
    this.#judged.start(this.#session);
    // Linux's balloon driver notifies of its first buffer too early, and never again.
    this.#lookAtQueues();
  }

  #lookAtQueues(): void {
    this.queues.forEach(({ queue }, index) => {
      if (queue?.isOpen === true) this.#look(index);
    });
  }

  /** Has the device look at a queue: at so many of its requests that others have their turn. */
  #look(index: number): void {
    const queue = this.queues[index]?.queue;
    if (queue === undefined) return;
    if (this.#turn === undefined || this.#clock === undefined) {
      this.#judged.notify(index);
      return;
    }
    queue.limit(TURN * queue.size);
    this.#judged.notify(index);
    if (!queue.unlimit()) return;
    this.#starved.add(index);
    this.#turn.arm(this.#clock.nowNs() + BREATH_NS);
  }

  #settleLegacyFeatures(): void {
    if ((this.#status & Status.FEATURES_OK) !== 0) return;
    this.#features = this.#features.within(this.offered); // there is no way to say no
    this.#status |= Status.FEATURES_OK;
    if (!this.#judged.acceptFeatures(this.#features)) this.#fail("featuresRefused");
  }

  #startIfReady(): void {
    const needed = Status.DRIVER_OK | Status.FEATURES_OK;
    const isReady = (this.#status & (needed | Status.DEVICE_NEEDS_RESET)) === needed;
    if (isReady && !this.#isStarted) this.#start();
  }

  readonly #session: VirtioSession = ((): VirtioSession => {
    const features = (): FeatureSet => this.#features;
    const memory = (): GuestMemory => this.#memory;
    return {
      get features() {
        return features();
      },
      get memory() {
        return memory();
      },
      queue: (index) => this.queues[index]?.queue,
      configChanged: () => {
        this.#configGeneration = (this.#configGeneration + 1) & 0xff;
        this.#interrupts.config();
      },
      fail: (reason) => {
        this.#fail(reason);
      },
    };
  })();

  #open(index: number, registers: QueueRegisters): void {
    registers.queue = this.#queue(index, registers, (fault) => {
      this.#fail(fault);
    });
  }

  #queue(index: number, registers: QueueRegisters, fail: (fault: string) => void): DeviceQueue {
    let report = fail;
    const queue = new DeviceQueue({
      size: registers.size,
      addresses: registers.addresses,
      features: this.#features,
      memory: this.#memory,
      interrupt: () => {
        registers.stats.interrupts++;
        this.#interrupts.queue(index);
      },
      request: () => {
        registers.stats.requests++;
      },
      fail: (fault) => {
        report(fault);
      },
    });
    report = (fault) => {
      this.#fail(fault);
    };
    return queue;
  }

  #fail(reason: string): void {
    this.#faults.set(reason, (this.#faults.get(reason) ?? 0) + 1);
    for (const registers of this.queues) registers.queue?.close();
    if ((this.#status & Status.DEVICE_NEEDS_RESET) !== 0) return;
    this.#status |= Status.DEVICE_NEEDS_RESET;
    if (this.#isStarted) this.#interrupts.config(); // §2.1.2
  }

  /** Goes on once an operation of the device's is over, however that ends. */
  #settle(operation: void | Promise<void>, then: () => void): void {
    if (operation === undefined) then();
    else void operation.then(then, then).catch(this.#report);
  }

  /** What the device throws where no access asked it goes where the machine hears of it: a timer throws it. */
  readonly #report = (fault: unknown): void => {
    const clock = this.#clock;
    if (clock === undefined) throw fault;
    const timer = clock.createTimer(() => {
      throw fault;
    });
    timer.arm(clock.nowNs());
  };

  #refuse(reason: string): never {
    throw new RestoreError(this.#name, reason);
  }
}

const differing = ({ low, high }: FeatureSet, other: readonly [low: number, high: number]): number[] => {
  const both = new FeatureSet(low ^ other[0], high ^ other[1]);
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => both.has(bit));
};

const hex = ([low, high]: readonly [number, number]): string =>
  `0x${high.toString(16)}${low.toString(16).padStart(8, "0")}`;
