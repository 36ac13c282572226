import { type IoWidth, NorthbridgeError } from "@northbridge/sdk";
import {
  type ConfigPart,
  FeatureSet,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
} from "@northbridge/sdk/virtio";
import { MAX_TABLE_REGIONS } from "../protocol/spec.ts";
import type { FrontEnd } from "./front-end.ts";
import { LinkEvents, Origin } from "./origin.ts";
import { RingRegion } from "./ring-region.ts";
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
  /** Puts into a back end's what is for this side to say. @defaultValue nothing is */
  readonly own?: (config: Uint8Array) => void;
  /** Parts of the back end's that have to be a saved machine's. @defaultValue none */
  readonly identity?: readonly ConfigPart[];
  /** Parts of the back end's that a driver may write: a new back end is told of them. @defaultValue none */
  readonly writable?: readonly WritablePart[];
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
  /** Hears why a back end cannot be used that is there, once for each reason. */
  readonly say?: (line: string) => void;
}

/** What a driver may write that has agreed to the feature. */
interface WritablePart extends ConfigPart {
  readonly feature: number;
  /** A feature without which these bytes are zero when the driver starts. */
  readonly needs?: number;
}

/** Of a device that a process serves. */
export interface SocketDeviceOptions extends ExternalDeviceOptions {
  /** Where the back end listens. */
  readonly socket: string;
}

/**
 * A virtio device whose requests another process serves (vhost-user: the front end), or the kernel (vhost). A process
 * that goes away is waited for, as is one that refuses: what it had not answered, the next one gets again. Requests of a
 * saved machine come out of its queues.
 */
export class ExternalDevice implements VirtioDevice {
  readonly deviceId: number;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array;
  readonly identity: readonly ConfigPart[];
  /** The configuration space that no driver has written to. */
  readonly #made: Uint8Array;
  readonly #options: ExternalDeviceOptions;
  /** Features that the back end does not hear of. */
  readonly #ours: readonly number[];
  readonly #counts = { requests: 0, reconnects: 0, refusals: 0, configChanges: 0 };
  /** Undefined where nobody else can serve it. */
  readonly #origin: Origin | undefined;
  #server: RingServer;
  /** The server's features are known, and it has not gone. */
  #isThere = true;
  #session: VirtioSession | undefined;
  #region: RingRegion | undefined;
  #rings: ShadowRing[] = [];
  /** Rings that the back end serves, from the first on. */
  #inUse: number;
  /** By ring: where the back end that knows it goes on. */
  #bases: number[] | undefined;
  /** The back end serves the rings. */
  #isServing = false;
  #isConnected = true;
  #lastRefusal: string | undefined;
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
    origin?: Origin,
  ) {
    this.#server = server;
    this.#options = options;
    this.#origin = origin;
    this.deviceId = options.deviceId;
    this.queues = options.queues;
    this.#inUse = options.queues.length;
    this.config = config;
    this.#made = config.slice();
    this.identity = options.identity ?? [];
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

  /**
   * Connects to the back end. Throws `NB_HOST` where nobody listens, it has too few queues, or the machine's memory is in
   * more regions than a back end takes.
   */
  static async connect(options: SocketDeviceOptions): Promise<ExternalDevice> {
    const { socket, config, ram } = options;
    const most = MAX_TABLE_REGIONS - 1; // and one for the rings
    if (ram.regions.length > most) {
      const found = `${socket}: expected at most ${most} regions of memory, found ${ram.regions.length}`;
      throw new NorthbridgeError("NB_HOST", found);
    }
    const origin = new Origin(options);
    const events = new LinkEvents();
    const front = origin.open(events);
    try {
      await origin.agree(front);
      const bytes = typeof config === "number" ? await configOf(front, config, options) : config;
      const device = new ExternalDevice(front, bytes ?? new Uint8Array(0), options, origin);
      device.#follow(events);
      return device;
    } catch (error) {
      front.close();
      throw error;
    }
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    const isWithin = (part: ConfigPart): boolean =>
      offset >= part.offset && offset + width <= part.offset + part.length;
    if (this.#options.writable?.some(isWithin) !== true) return;
    for (let i = 0; i < width; i++) this.config[offset + i] = value >>> (8 * i);
    this.#say(() => this.#tellWritten());
  }

  /** Has the back end serve so many of the rings, from the first on, and no other. Resolves once it knows. */
  useRings(count: number): Promise<void> {
    this.#inUse = count;
    this.#say(async () => {
      if (this.#isServing) await this.#enableRings();
    });
    return this.#work;
  }

  start(session: VirtioSession): void {
    this.#session = session;
    for (const { offset, length, needs } of this.#options.writable ?? [])
      if (needs !== undefined && !session.features.has(needs)) this.config.fill(0, offset, offset + length);
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
    for (const { offset, length } of this.#options.writable ?? [])
      this.config.set(this.#made.subarray(offset, offset + length), offset);
    await this.#stop();
    this.#closeRings();
  }

  /** A back end cannot be told to forget one ring's requests: it gets new rings, and in them all others' requests. */
  async resetQueue(index: number): Promise<void> {
    await this.#stop();
    this.#collectAll();
    this.#rings[index]?.takeBack();
    this.#bases = undefined;
    this.#say(() => this.#serve());
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#stop();
    this.#collectAll();
  }

  resume(): void {
    this.#isPaused = false;
    this.#showConnected(); // a restored machine's may have been gone
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
    this.#closeRings();
  }

  /** Says something to the back end, after what is being said. One that refuses is done with, and waited for anew. */
  #say(what: () => Promise<void>): void {
    this.#work = this.#work.then(what).catch((error: unknown) => {
      this.#refused(error);
      this.#giveUp();
    });
  }

  get #isLost(): boolean {
    return !this.#isThere;
  }

  /** This back end serves the rings no more: another one is waited for where there can be one. */
  #giveUp(): void {
    this.#bases = undefined;
    if (this.#origin === undefined) this.#setConnected(false);
    else this.#server.close();
  }

  /** Gives the back end memory and rings, and in them first what it, or another one, had not answered. */
  async #serve(): Promise<void> {
    const session = this.#session;
    if (session === undefined || this.#isPaused || this.#isServing || !this.#isThere) return;
    const server = this.#server;
    if (this.#bases === undefined) await this.#giveRings(session);
    const bases = this.#bases ?? [];
    for (const [index, ring] of this.#rings.entries()) {
      await server.startRing(index, ring.place(bases[index] ?? 0), ring.kick, ring.call);
    }
    await this.#enableRings();
    await this.#tellWritten(); // not before: a back end that starts anew forgets it
    if (this.#isLost) return; // meanwhile, without a word of refusal
    this.#isServing = true;
    this.#lastRefusal = undefined;
    this.#setConnected(true);
    this.#rings.forEach((ring, index) => {
      ring.notify();
      this.notify(index);
    });
  }

  async #enableRings(): Promise<void> {
    for (const index of this.#rings.keys()) await this.#server.enableRing(index, index < this.#inUse);
  }

  /** Tells the back end what the driver has written, or what an earlier one had there. */
  async #tellWritten(): Promise<void> {
    const session = this.#session;
    if (session === undefined || !this.#isThere) return;
    for (const { offset, length, feature } of this.#options.writable ?? []) {
      if (!session.features.has(feature)) continue;
      // One that does not take it has said nothing of the rings.
      await this.#server
        .setConfig?.(offset, this.config.slice(offset, offset + length))
        .catch(() => undefined);
    }
  }

  /** New rings, for a back end that has none of this device's. */
  async #giveRings(session: VirtioSession): Promise<void> {
    const server = this.#server;
    this.#expectFeatures(server);
    const hasEventIdx = server.features.has(Feature.EVENT_IDX);
    const bits = this.#chosen(session);
    this.#options.started?.(session.features);
    await server.setFeatures(
      FeatureSet.of([...bits, Feature.VERSION_1, ...(hasEventIdx ? [Feature.EVENT_IDX] : [])]),
    );
    this.#takeBack(session);
    this.#closeRings();
    const region = new RingRegion(this.queues.length);
    this.#region = region;
    this.#rings = this.queues.map(
      (_, index) =>
        new ShadowRing(region.space(index), hasEventIdx, () => {
          this.#collect(index);
        }),
    );
    await server.setMemory([...this.#options.ram.regions, region.region]);
  }

  #closeRings(): void {
    for (const ring of this.#rings.splice(0)) ring.close();
    this.#region?.close();
    this.#region = undefined;
    this.#bases = undefined;
  }

  /** What the driver chose of the back end's features. */
  #chosen(session: VirtioSession): readonly number[] {
    return this.features.filter((bit) => session.features.has(bit) && !this.#ours.includes(bit));
  }

  #collect(index: number): void {
    if (this.#rings[index]?.collect(this.#session?.queue(index)) === false)
      this.#session?.fail("backEndLied");
    if (this.#isServing) this.notify(index); // there is room again
  }

  #collectAll(): void {
    for (const index of this.#rings.keys()) this.#collect(index);
  }

  /** Resolves once no back end touches the rings, whoever had them stopped. */
  #stop(): Promise<void> {
    this.#say(() => this.#stopRings());
    return this.#work;
  }

  async #stopRings(): Promise<void> {
    if (!this.#isServing) return;
    this.#isServing = false;
    const bases: number[] = [];
    try {
      for (const index of this.#rings.keys()) bases.push(await this.#server.stopRing(index));
      this.#bases = bases;
    } catch {
      this.#giveUp(); // whatever it still does with the rings, it is over
    }
  }

  /** What a back end had not used is for the next one, before all that comes after it. */
  #takeBack(session: VirtioSession): void {
    this.#rings.forEach((ring, index) => {
      for (const chain of ring.takeBack()) {
        this.#counts.requests--;
        session.queue(index)?.unpop(chain);
      }
    });
  }

  /** What the connection there is has to say. */
  #follow(events: LinkEvents): void {
    events.changed = () => void this.#refreshConfig();
    events.lost = () => {
      this.#lost();
    };
  }

  #lost(): void {
    if (this.#isClosed) return;
    this.#isThere = false;
    this.#isServing = false;
    this.#bases = undefined;
    this.#collectAll();
    this.#setConnected(false);
    this.#retryLater();
  }

  #refused(error: unknown): void {
    if (this.#isClosed) return;
    this.#counts.refusals++;
    const reason = error instanceof Error ? error.message : String(error);
    if (reason === this.#lastRefusal) return;
    this.#lastRefusal = reason;
    this.#options.say?.(this.#origin === undefined ? reason : `${this.#origin.socket}: ${reason}`);
  }

  #retryLater(): void {
    clearTimeout(this.#retry);
    if (!this.#isClosed) this.#retry = setTimeout(() => void this.#reconnect(), RETRY_MS);
  }

  #setConnected(isConnected: boolean): void {
    this.#isConnected = isConnected;
    this.#showConnected();
  }

  /** Tells the driver whether the back end is there; of a machine that stands still, once it goes on. */
  #showConnected(): void {
    const { connected } = this.#options;
    if (connected === undefined || this.#isPaused) return;
    const before = this.config.slice();
    connected(this.#isConnected, this.config);
    if (this.config.some((byte, at) => byte !== before[at])) this.#session?.configChanged();
  }

  /** Until a back end is there that can go on where the last one stopped. */
  async #reconnect(): Promise<void> {
    const origin = this.#origin;
    if (origin === undefined) return;
    const events = new LinkEvents();
    let front: FrontEnd;
    try {
      front = origin.open(events);
    } catch {
      this.#retryLater(); // nobody is there
      return;
    }
    this.#server = front;
    try {
      await origin.agree(front);
      this.#expectFeatures(front);
      if (typeof this.#options.config === "number") await this.#refreshConfig();
    } catch (error) {
      this.#refused(error);
      front.close();
    }
    if (front.isClosed) {
      this.#retryLater();
      return;
    }
    this.#isThere = true;
    this.#follow(events);
    this.#counts.reconnects++;
    this.#setConnected(true);
    this.#say(() => this.#serve());
  }

  /** The driver cannot be told that a feature has gone. Throws `NB_HOST`. */
  #expectFeatures({ features }: RingServer): void {
    const session = this.#session;
    const missing = session && this.#chosen(session).filter((bit) => !features.has(bit));
    if (missing === undefined || missing.length === 0) return;
    const which = `the features the driver uses, found none of ${missing.join(", ")}`;
    throw new NorthbridgeError("NB_HOST", `vhost-user GET_FEATURES: expected ${which}`);
  }

  async #refreshConfig(): Promise<void> {
    const { length: size } = this.config;
    const bytes = await configOf(this.#server, size, this.#options).catch(() => undefined);
    for (const { offset, length } of this.#options.writable ?? [])
      bytes?.set(this.config.subarray(offset, offset + length), offset);
    if (bytes === undefined || bytes.every((byte, i) => byte === this.config[i])) return;
    this.config.set(bytes);
    this.#counts.configChanges++;
    this.#session?.configChanged();
  }
}

/** As the driver sees it. */
async function configOf(
  server: RingServer,
  length: number,
  { own }: ExternalDeviceOptions,
): Promise<Uint8Array | undefined> {
  const bytes = await server.config?.(length);
  if (bytes !== undefined) own?.(bytes);
  return bytes;
}
