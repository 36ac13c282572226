import { type IoWidth, NorthbridgeError } from "@northbridge/sdk";
import {
  type DescriptorChain,
  FeatureSet,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { FrontEnd } from "./front-end.ts";
import type { RingServer, SharedRegion } from "./ring-server.ts";
import { ShadowRing } from "./shadow-ring.ts";

const { Feature } = virtioSpec;

/** How long to wait before the next try to reach a back end that is gone. */
const RETRY_MS = 1000;

export interface ExternalDeviceOptions {
  readonly deviceId: number;
  /** Largest size of each queue, as the guest sees it. */
  readonly queues: readonly number[];
  /** The configuration space, where it is not the back end's; else as many bytes of the back end's. */
  readonly config: Uint8Array | number;
  /** The machine's memory, as the back end is told of it. */
  readonly ram: { readonly regions: readonly SharedRegion[] };
  /** Which features of the device's own the guest is offered. @defaultValue all that the back end has */
  readonly features?: {
    /** Those of the back end's that may be used. */
    readonly theirs: readonly number[];
    /** Those that need no back end: it is not told of them. */
    readonly ours: readonly number[];
  };
  /** Hears when the back end is there and when it is gone; may change the configuration space to say so. */
  readonly connected?: (isConnected: boolean, config: Uint8Array) => void;
  /** Hears what the driver has agreed to, before its rings are served. */
  readonly started?: (features: FeatureSet) => void;
}

/** Of a device that a process serves. */
export interface SocketDeviceOptions extends ExternalDeviceOptions {
  /** Where the back end listens. */
  readonly socket: string;
}

/**
 * A virtio device whose requests another process serves (vhost-user: the front end), or the kernel (vhost). A process
 * that goes away is waited for: what it had not answered, the next one gets again. Requests of a saved machine come out
 * of its queues.
 */
export class ExternalDevice implements VirtioDevice {
  readonly deviceId: number;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array;
  readonly #options: ExternalDeviceOptions;
  /** Finds the back end again that was lost. */
  readonly #find: (() => Promise<RingServer>) | undefined;
  /** Features that the back end does not hear of. */
  readonly #ours: readonly number[];
  readonly #counts = { requests: 0, reconnects: 0, configChanges: 0, refusals: 0 };
  #server: RingServer;
  #session: VirtioSession | undefined;
  #rings: ShadowRing[] = [];
  /** The back end serves the rings. */
  #isServing = false;
  #isConnected = true;
  /** The machine does not run. */
  #isPaused = false;
  #isClosed = false;
  #retry: NodeJS.Timeout | undefined;
  /** What is being said to the back end. */
  #work: Promise<void> = Promise.resolve();

  private constructor(
    server: RingServer,
    config: Uint8Array,
    options: ExternalDeviceOptions,
    find?: () => Promise<RingServer>,
  ) {
    this.#server = server;
    this.#options = options;
    this.#find = find;
    this.deviceId = options.deviceId;
    this.queues = options.queues;
    this.config = config;
    const bits = Array.from({ length: 64 }, (_, bit) => bit);
    const { theirs, ours = [] } = options.features ?? {};
    this.#ours = ours;
    const offered = bits.filter((bit) => (bit < 24 || bit >= 50) && server.features.has(bit));
    this.features = [
      ...offered.filter((bit) => theirs?.includes(bit) !== false && !ours.includes(bit)),
      ...ours,
    ];
    options.connected?.(true, config);
  }

  /** A device whose rings `server` serves, which is the device's from now on and never goes away. */
  static over(
    server: RingServer,
    options: ExternalDeviceOptions & { readonly config: Uint8Array },
  ): ExternalDevice {
    return new ExternalDevice(server, options.config, options);
  }

  /** Connects to the back end. Throws `NB_HOST` where nobody listens, or it has too few queues. */
  static async connect(options: SocketDeviceOptions): Promise<ExternalDevice> {
    const events = { changed: (): void => undefined, closed: (): void => undefined };
    const find = async (): Promise<FrontEnd> => {
      const front = FrontEnd.connect(options.socket, {
        configChanged: () => {
          events.changed();
        },
        closed: () => {
          events.closed();
        },
      });
      await front.negotiate();
      return front;
    };
    const front = await find();
    const said = await front.queueNum();
    // Back ends of network cards count pairs.
    const most = said !== undefined && options.deviceId === virtioSpec.DeviceId.NET ? 2 * said : said;
    if (most !== undefined && most < options.queues.length) {
      front.close();
      const found = `${options.socket}: expected ${options.queues.length} queues, found ${most}`;
      throw new NorthbridgeError("NB_HOST", found);
    }
    const { config } = options;
    const bytes = typeof config === "number" ? await front.config(config) : config;
    const device = new ExternalDevice(front, bytes ?? new Uint8Array(0), options, find);
    events.changed = () => void device.#refreshConfig();
    events.closed = () => {
      device.#lost();
    };
    return device;
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    const bytes = Uint8Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff);
    this.config.set(bytes, offset);
    this.#say(async () => this.#server.setConfig?.(offset, bytes));
  }

  start(session: VirtioSession): void {
    this.#session = session;
    this.#say(() => this.#serve());
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    const ring = this.#rings[index];
    if (queue === undefined || ring === undefined || !this.#isServing) return;
    do {
      queue.disableNotifications();
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        if (!ring.add(chain)) {
          queue.unpop(chain);
          ring.notify();
          return; // until the back end has used some
        }
        this.#counts.requests++;
      }
    } while (!queue.enableNotifications());
    ring.notify();
  }

  async reset(): Promise<void> {
    this.#session = undefined;
    await this.#work;
    await this.#stopRings();
    for (const ring of this.#rings.splice(0)) ring.close();
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#work;
    await this.#stopRings();
    this.#rings.forEach((_, index) => {
      this.#collect(index);
    });
  }

  resume(): void {
    this.#isPaused = false;
    this.#say(() => this.#serve());
  }

  save(): undefined {
    return undefined;
  }

  /** What was under way comes out of the queues again, once the machine goes on. */
  restore(): void {
    this.#isPaused = true;
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#server.close();
    for (const ring of this.#rings.splice(0)) ring.close();
  }

  /** Says something to the back end, after what is being said. One that is gone is not told. */
  #say(what: () => Promise<void>): void {
    this.#work = this.#work.then(what).catch(() => {
      this.#counts.refusals++;
      if (this.#find === undefined) this.#sayConnected(false); // nobody else is going to serve it
    });
  }

  /** Gives the back end memory and rings, and in them first what it, or another one, had not answered. */
  async #serve(): Promise<void> {
    const session = this.#session;
    if (session === undefined || this.#isPaused || this.#isServing) return;
    const server = this.#server;
    const bits = this.features.filter((bit) => session.features.has(bit) && !this.#ours.includes(bit));
    const hasEventIdx = server.features.has(Feature.EVENT_IDX);
    this.#options.started?.(session.features);
    await server.setFeatures(
      FeatureSet.of([...bits, Feature.VERSION_1, ...(hasEventIdx ? [Feature.EVENT_IDX] : [])]),
    );
    const waiting = this.#takeBack(); // and from here to the new rings nothing is waited for
    for (const ring of this.#rings.splice(0)) ring.close();
    this.#rings = this.queues.map(
      (_, index) =>
        new ShadowRing(index, hasEventIdx, () => {
          this.#collect(index);
        }),
    );
    this.#rings.forEach((ring, index) => {
      for (const chain of waiting[index] ?? []) ring.add(chain);
    });
    await server.setMemory([...this.#options.ram.regions, ...this.#rings.map(({ region }) => region)]);
    for (const [index, ring] of this.#rings.entries()) {
      await server.startRing(index, ring.place(0), ring.kick, ring.call);
    }
    for (const index of this.#rings.keys()) await server.enableRing(index, true);
    this.#isServing = true;
    this.#rings.forEach((ring, index) => {
      ring.notify();
      this.notify(index);
    });
  }

  #collect(index: number): void {
    if (this.#rings[index]?.collect(this.#session?.queue(index)) === false)
      this.#session?.fail("backEndLied");
    if (this.#isServing) this.notify(index); // there is room again
  }

  async #stopRings(): Promise<void> {
    if (!this.#isServing) return;
    this.#isServing = false;
    for (const index of this.#rings.keys()) await this.#server.stopRing(index).catch(() => 0);
  }

  #takeBack(): readonly (readonly DescriptorChain[])[] {
    return this.#rings.map((ring) => ring.takeBack());
  }

  #lost(): void {
    if (this.#isClosed || this.#retry !== undefined) return;
    this.#isServing = false;
    this.#rings.forEach((_, index) => {
      this.#collect(index);
    });
    this.#sayConnected(false);
    this.#retry = setTimeout(() => void this.#reconnect(), RETRY_MS);
  }

  #sayConnected(isConnected: boolean): void {
    const { connected } = this.#options;
    if (connected === undefined || isConnected === this.#isConnected) return;
    this.#isConnected = isConnected;
    connected(isConnected, this.config);
    this.#session?.configChanged();
  }

  async #reconnect(): Promise<void> {
    this.#retry = undefined;
    const server = await this.#find?.().catch(() => undefined);
    if (this.#isClosed) server?.close();
    if (server === undefined) this.#lost();
    if (this.#isClosed || server === undefined) return;
    this.#server = server;
    this.#counts.reconnects++;
    this.#sayConnected(true);
    this.#say(() => this.#serve());
  }

  async #refreshConfig(): Promise<void> {
    const bytes = await this.#server.config?.(this.config.length).catch(() => undefined);
    if (bytes === undefined) return;
    this.config.set(bytes);
    this.#counts.configChanges++;
    this.#session?.configChanged();
  }
}
