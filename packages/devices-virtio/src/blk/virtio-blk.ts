import {
  type BlockBackend,
  type Clock,
  type IoWidth,
  NorthbridgeError,
  RestoreError,
} from "@northbridge/sdk";
import {
  type ConfigPart,
  type DescriptorChain,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import { HostOperations } from "../host-operations.ts";
import type { OnError } from "../on-error.ts";
import { RateLimiter, type RateLimiterStateV1, type RateLimits, serveWithin } from "../rate-limiter.ts";
import { expectVersion } from "../saved-state.ts";
import { parseSize } from "../parse-size.ts";
import {
  Config,
  Feature,
  Header,
  ID_LENGTH,
  MAX_RANGE_SECTORS,
  MAX_RANGES,
  Range,
  RequestStatus,
  RequestType,
  SECTOR,
  SEG_MAX,
} from "./spec.ts";

export interface VirtioBlkDeps {
  readonly backend: BlockBackend;
  /** At most 20 bytes, what GET_ID answers. */
  readonly serial: string;
  /** @defaultValue 1 */
  readonly queues?: number;
  /** @defaultValue 256 */
  readonly queueSize?: number;
  /** `stop` keeps the failed requests and calls `stop`; they are tried again at `resume`. @defaultValue report */
  readonly onError?: OnError;
  /** Asks the machine to pause, saying why. */
  readonly stop?: (reason: string) => void;
  /** What the driver is told of the disk's geometry. */
  readonly topology?: BlkTopology;
  /** @defaultValue any amount of requests */
  readonly limits?: { readonly rates: RateLimits; readonly clock: Clock };
}

/** Sizes in bytes (virtio 1.3 §5.2.4, `topology`). */
export interface BlkTopology {
  /** Smallest request. A power of two, at least the back end's. @defaultValue the back end's */
  readonly blockSize?: number | undefined;
  /** What the medium writes at once: a power of two. @defaultValue `blockSize` */
  readonly physicalBlockSize?: number | undefined;
  /** Smallest request that is not slower than it must be. @defaultValue `physicalBlockSize` */
  readonly minIoSize?: number | undefined;
  /** @defaultValue none */
  readonly optIoSize?: number | undefined;
}

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioBlkStateV1 {
  readonly version: 1;
  readonly capacity: number;
  readonly writeback: number;
  readonly limiter?: RateLimiterStateV1;
}

const OK = Promise.resolve();

/**
 * Block device (virtio 1.3 §5.2). Reads and writes go between backend and guest memory without a copy; requests
 * complete in the backend's order. Not modelled: legacy geometry, lifetime information, secure erase, zones.
 */
export class VirtioBlk implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.BLOCK;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly identity: readonly ConfigPart[] = [
    { name: "topology", offset: Config.BLK_SIZE, length: Config.WRITEBACK - Config.BLK_SIZE },
  ];
  readonly #view: DataView;
  readonly #backend: BlockBackend;
  readonly #id: Uint8Array;
  readonly #onError: OnError;
  readonly #stop: (reason: string) => void;
  readonly #counts = {
    reads: 0,
    writes: 0,
    flushes: 0,
    bytesRead: 0,
    bytesWritten: 0,
    errors: 0,
    throttled: 0,
  };
  readonly #limiter: RateLimiter | undefined;
  readonly #blockSize: number;
  readonly #busy: HostOperations;
  #session: VirtioSession | undefined;
  #isPaused = false;

  constructor(deps: VirtioBlkDeps) {
    const { backend, queues = 1, queueSize = 256 } = deps;
    this.#backend = backend;
    this.#blockSize = deps.topology?.blockSize ?? backend.blockSize;
    this.#limiter = deps.limits && this.#limiterOf(deps.limits.rates, deps.limits.clock);
    this.#onError = deps.onError ?? "report";
    this.#stop = deps.stop ?? (() => undefined);
    this.#id = Uint8Array.from({ length: ID_LENGTH }, (_, i) => deps.serial.charCodeAt(i) & 0xff); // NaN is 0
    this.queues = new Array<number>(queues).fill(queueSize);
    this.#busy = new HostOperations(queues);
    this.features = [
      Feature.SEG_MAX,
      Feature.BLK_SIZE,
      Feature.FLUSH,
      Feature.TOPOLOGY,
      Feature.CONFIG_WCE,
      ...(queues > 1 ? [Feature.MQ] : []),
      ...(backend.readOnly ? [Feature.RO] : []),
      ...(backend.discard === undefined || backend.readOnly ? [] : [Feature.DISCARD]),
      ...(backend.writeZeroes === undefined || backend.readOnly ? [] : [Feature.WRITE_ZEROES]),
    ];
    const view = new DataView(this.config.buffer);
    this.#view = view;
    this.#setCapacity(backend.size);
    view.setUint32(Config.SEG_MAX, Math.min(SEG_MAX, queueSize - 2), true);
    this.#setTopology(deps.topology ?? {});
    view.setUint8(Config.WRITEBACK, 1);
    view.setUint16(Config.NUM_QUEUES, queues, true);
    view.setUint32(Config.MAX_DISCARD_SECTORS, MAX_RANGE_SECTORS, true);
    view.setUint32(Config.MAX_DISCARD_SEG, MAX_RANGES, true);
    view.setUint32(Config.DISCARD_SECTOR_ALIGNMENT, this.#blockSize / SECTOR, true);
    view.setUint32(Config.MAX_WRITE_ZEROES_SECTORS, MAX_RANGE_SECTORS, true);
    view.setUint32(Config.MAX_WRITE_ZEROES_SEG, MAX_RANGES, true);
    view.setUint8(Config.WRITE_ZEROES_MAY_UNMAP, backend.discard === undefined ? 0 : 1);
  }

  writeConfig(offset: number, _width: IoWidth, value: number): void {
    if (offset === Config.WRITEBACK) this.#view.setUint8(Config.WRITEBACK, value & 1);
  }

  start(session: VirtioSession): void {
    this.#session = session;
    // A driver that takes FLUSH gets a write-back cache, one that does not write-through; who takes both may have
    // chosen already (§5.2.5.1, §5.2.5.2).
    if (!session.features.has(Feature.CONFIG_WCE) || !session.features.has(Feature.FLUSH)) {
      this.#view.setUint8(Config.WRITEBACK, session.features.has(Feature.FLUSH) ? 1 : 0);
    }
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined || this.#isPaused) return;
    const isServed = serveWithin(this.#limiter, queue, payload, (chain) => {
      this.#begin(index, queue, chain);
    });
    if (!isServed) this.#counts.throttled++;
  }

  reset(): Promise<void> | undefined {
    this.#session = undefined;
    this.#view.setUint8(Config.WRITEBACK, 1);
    return this.#busy.over();
  }

  resetQueue(index: number): Promise<void> | undefined {
    return this.#busy.over(index);
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    this.#backend.hurry?.();
    await this.#busy.over();
  }

  resume(): void {
    this.#isPaused = false;
  }

  /** The backend has another size now. */
  resized(): void {
    this.#setCapacity(this.#backend.size);
    this.#session?.configChanged();
  }

  /** `resize SIZE`: gives the back end, and so the guest, another capacity. */
  async monitorCommand([verb, size, ...rest]: readonly string[]): Promise<string> {
    if (verb !== "resize" || size === undefined || rest.length > 0) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `expected resize SIZE, found ${[verb, size, ...rest].join(" ")}`,
      );
    }
    const bytes = parseSize(size);
    if (bytes === undefined || bytes === 0 || bytes % this.#blockSize !== 0) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `expected a size in bytes, or with K, M, G or T, that is a multiple of ${this.#blockSize}, found ${size}`,
      );
    }
    if (this.#backend.resize === undefined || this.#backend.readOnly) {
      throw new NorthbridgeError("NB_HOST", "this disk cannot have another size");
    }
    await this.#backend.resize(bytes);
    this.resized();
    return `${bytes} bytes`;
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  save(): VirtioBlkStateV1 {
    return {
      version: 1,
      capacity: this.#backend.size / SECTOR,
      writeback: this.#view.getUint8(Config.WRITEBACK),
      ...(this.#limiter && { limiter: this.#limiter.save() }),
    };
  }

  restore(state: unknown): void {
    const { version, capacity, writeback, limiter } = state as VirtioBlkStateV1;
    expectVersion("virtioBlk", version);
    if (capacity * SECTOR !== this.#backend.size) {
      throw new RestoreError(
        "virtioBlk",
        `the disk had ${capacity} sectors, expected ${this.#backend.size / SECTOR}`,
      );
    }
    this.#view.setUint8(Config.WRITEBACK, writeback);
    if (limiter !== undefined) this.#limiter?.restore(limiter);
  }

  /** Starts a request. Whatever it is, the last writable byte gets its status (§5.2.6). */
  #begin(index: number, queue: VirtQueue, chain: DescriptorChain): void {
    if (chain.readableBytes < Header.LENGTH || chain.writableBytes < 1) {
      this.#session?.fail("malformedRequest");
      return;
    }
    const operation = this.#operation(chain);
    if (typeof operation === "number") {
      this.#complete(queue, chain, operation);
      return;
    }
    const data = chain.readU32(Header.TYPE) === RequestType.IN ? chain.writableBytes - 1 : 0;
    this.#busy.begin(index);
    void operation.then(
      () => {
        this.#busy.end(index);
        chain.written(0, data); // though the driver may have reset the queue meanwhile
        this.#complete(queue, chain, RequestStatus.OK);
        queue.flush();
      },
      (error: unknown) => {
        this.#busy.end(index);
        chain.written(0, data); // some of it
        this.#failed(queue, chain, error);
      },
    );
  }

  /** What the request asks of the backend, or the status it ends with at once. */
  #operation(chain: DescriptorChain): Promise<void> | number {
    const type = chain.readU32(Header.TYPE);
    const offset = chain.readU64(Header.SECTOR) * SECTOR;
    const backend = this.#backend;
    switch (type) {
      case RequestType.IN: {
        const length = chain.writableBytes - 1;
        if (!this.#isInside(offset, length)) return RequestStatus.IOERR;
        this.#counts.reads++;
        this.#counts.bytesRead += length;
        return backend.read(offset, chain.writable(0, length));
      }
      case RequestType.OUT: {
        const length = chain.readableBytes - Header.LENGTH;
        if (backend.readOnly || !this.#isInside(offset, length)) return RequestStatus.IOERR;
        this.#counts.writes++;
        this.#counts.bytesWritten += length;
        return this.#writtenThrough(backend.write(offset, chain.readable(Header.LENGTH, length)));
      }
      case RequestType.FLUSH:
        this.#counts.flushes++;
        return backend.readOnly ? OK : backend.flush();
      case RequestType.GET_ID:
        if (chain.writableBytes < ID_LENGTH + 1) return RequestStatus.IOERR;
        chain.write(0, this.#id);
        return RequestStatus.OK;
      case RequestType.DISCARD:
      case RequestType.WRITE_ZEROES:
        return this.#ranges(chain, type);
      default:
        return RequestStatus.UNSUPP;
    }
  }

  /** DISCARD and WRITE_ZEROES: up to `MAX_RANGES` segments (§5.2.6.2). */
  #ranges(chain: DescriptorChain, type: number): Promise<void> | number {
    const backend = this.#backend;
    const isDiscard = type === RequestType.DISCARD;
    if (!this.features.includes(isDiscard ? Feature.DISCARD : Feature.WRITE_ZEROES))
      return RequestStatus.UNSUPP;
    const count = (chain.readableBytes - Header.LENGTH) / Range.LENGTH;
    if (!Number.isInteger(count) || count < 1 || count > MAX_RANGES) return RequestStatus.IOERR;
    const ranges: { readonly offset: number; readonly length: number; readonly mayUnmap: boolean }[] = [];
    for (let i = 0; i < count; i++) {
      const at = Header.LENGTH + i * Range.LENGTH;
      const offset = chain.readU64(at + Range.SECTOR) * SECTOR;
      const sectors = chain.readU32(at + Range.NUM_SECTORS);
      const flags = chain.readU32(at + Range.FLAGS);
      if ((flags & ~(isDiscard ? 0 : Range.UNMAP)) !== 0) return RequestStatus.UNSUPP;
      if (sectors > MAX_RANGE_SECTORS || !this.#isInside(offset, sectors * SECTOR))
        return RequestStatus.IOERR;
      ranges.push({ offset, length: sectors * SECTOR, mayUnmap: (flags & Range.UNMAP) !== 0 });
    }
    const done = ranges.reduce(
      (before, { offset, length, mayUnmap }) =>
        before.then(() =>
          isDiscard ? backend.discard?.(offset, length) : backend.writeZeroes?.(offset, length, mayUnmap),
        ),
      OK,
    );
    return isDiscard ? done : this.#writtenThrough(done);
  }

  /** What a write is once it has ended: stable, unless the driver has a write-back cache (§5.2.6.2). */
  #writtenThrough(written: Promise<void>): Promise<void> {
    return this.#view.getUint8(Config.WRITEBACK) === 1 ? written : written.then(() => this.#backend.flush());
  }

  #isInside(offset: number, length: number): boolean {
    const size = this.#blockSize;
    return offset % size === 0 && length % size === 0 && offset + length <= this.#backend.size;
  }

  #complete(queue: VirtQueue, chain: DescriptorChain, status: number): void {
    if (!queue.isOpen) return;
    if (status !== RequestStatus.OK) this.#counts.errors++;
    chain.writeU8(chain.writableBytes - 1, status);
    queue.push(chain, chain.writableBytes);
  }

  #failed(queue: VirtQueue, chain: DescriptorChain, error: unknown): void {
    if (this.#onError === "stop" && queue.isOpen) {
      this.#counts.errors++;
      this.#isPaused = true; // nothing new until the host has put things right
      queue.unpop(chain);
      this.#stop(error instanceof Error ? error.message : String(error));
      return;
    }
    this.#complete(queue, chain, this.#onError === "ignore" ? RequestStatus.OK : RequestStatus.IOERR);
    queue.flush();
  }

  #setTopology(topology: BlkTopology): void {
    const view = this.#view;
    const { physicalBlockSize = this.#blockSize, minIoSize = physicalBlockSize, optIoSize = 0 } = topology;
    view.setUint32(Config.BLK_SIZE, this.#blockSize, true);
    view.setUint8(Config.PHYSICAL_BLOCK_EXP, Math.log2(physicalBlockSize / this.#blockSize));
    view.setUint16(Config.MIN_IO_SIZE, minIoSize / this.#blockSize, true); // both in logical blocks
    view.setUint32(Config.OPT_IO_SIZE, optIoSize / this.#blockSize, true);
  }

  #limiterOf(rates: RateLimits, clock: Clock): RateLimiter {
    return new RateLimiter(rates, clock, () => {
      this.queues.forEach((_, index) => {
        this.notify(index);
      });
    });
  }

  #setCapacity(bytes: number): void {
    const sectors = Math.floor(bytes / SECTOR);
    this.#view.setUint32(Config.CAPACITY, sectors >>> 0, true);
    this.#view.setUint32(Config.CAPACITY + 4, Math.floor(sectors / 2 ** 32), true);
  }
}

/** Bytes of data a request moves. */
const payload = (chain: DescriptorChain): number =>
  Math.max(0, chain.readableBytes - Header.LENGTH) + Math.max(0, chain.writableBytes - 1);
