import { close, createMemfd, sendMessage, setNonBlocking, SystemCallError } from "@northbridge/linux";
import { FeatureSet, virtioSpec } from "@northbridge/sdk/virtio";
import type { IoWidth } from "@northbridge/sdk";
import { Connection, type Message } from "../protocol/connection.ts";
import { featuresIn, setU64, statePayload, u64, u64Payload, viewOf } from "../protocol/payload.ts";
import {
  BackendRequest,
  ConfigHeader,
  Header,
  HeaderFlag,
  InflightDescription,
  MAX_CONFIG,
  MAX_MEM_SLOTS,
  MAX_TABLE_REGIONS,
  ProtocolFeature,
  Region,
  Request,
  requestName,
  VhostFeature,
  VringAddress,
  VringFd,
} from "../protocol/spec.ts";
import { DirtyLog } from "./dirty-log.ts";
import { InflightMemory } from "./inflight-memory.ts";
import { isWellFormed } from "./message-shape.ts";
import { closeAll, type CreateMemory, type RegionDescription, RegionTable } from "./region-table.ts";
import type { Ring } from "./ring.ts";
import { RingSet } from "./ring-set.ts";
import type { ServedDevice } from "./served-device.ts";

const { Status } = virtioSpec;

const PROTOCOL_FEATURES = [
  ProtocolFeature.MQ,
  ProtocolFeature.LOG_SHMFD,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.RESET_DEVICE,
  ProtocolFeature.CONFIGURE_MEM_SLOTS,
  ProtocolFeature.STATUS,
];

/** Largest queue a front end may ask for. */
const MAX_RING_SIZE = 32_768;

/** A message that a front end must not send, or not now. */
class Refusal extends Error {}

export interface SessionOptions {
  readonly served: ServedDevice;
  readonly createMemory: CreateMemory;
  /** Takes no memory that its owner could cut off while it is mapped here. */
  readonly sealedMemory: boolean;
  /** A person should hear of this. */
  readonly say: (line: string) => void;
}

/**
 * One front end's use of the device, from its connection to its end. A message that makes no sense is answered with a
 * failure where the front end asked for an answer, and ends the connection where not; both are counted by reason.
 */
export class BackendSession {
  /** Resolves with the reason once the front end is gone and nothing here touches its memory any more. */
  readonly ended: Promise<string>;
  readonly #served: ServedDevice;
  readonly #options: SessionOptions;
  readonly #connection: Connection;
  readonly #log = new DirtyLog();
  readonly #rings: RingSet;
  readonly #offeredProtocol: FeatureSet;
  #protocol = new FeatureSet();
  #status = 0;
  #channel: number | undefined;
  /** The message being handled. */
  #busy: Promise<void> = Promise.resolve();

  constructor(fd: number, options: SessionOptions) {
    const { served, createMemory } = options;
    this.#options = options;
    this.#served = served;
    this.#offeredProtocol = FeatureSet.of([
      ...PROTOCOL_FEATURES,
      ...(served.hasConfig ? [ProtocolFeature.CONFIG] : []),
    ]);
    this.#rings = new RingSet(served, RegionTable.empty(createMemory, this.#log));
    const ended = Promise.withResolvers<string>();
    this.ended = ended.promise;
    served.listen({
      configChanged: () => {
        this.#sendConfigChange();
      },
      failed: (reason) => {
        this.#status |= Status.DEVICE_NEEDS_RESET;
        this.#rings.signalErrors();
        options.say(`the device needs a reset: ${reason}`);
      },
    });
    this.#connection = new Connection(fd, {
      message: (message) => (this.#busy = this.#take(message)),
      closed: (reason) => {
        void this.#end(reason).then(ended.resolve, ended.reject);
      },
    });
  }

  close(): void {
    this.#connection.close("stopped");
  }

  async #end(reason: string): Promise<string> {
    await this.#busy;
    this.#served.count(`disconnected.${reason}`);
    await this.#rings.stopAll();
    this.#served.listen(undefined);
    this.#rings.close();
    this.#log.close();
    if (this.#channel !== undefined) close(this.#channel);
    return reason;
  }

  /** Handles a message and closes what descriptors of it nobody kept. */
  async #take(message: Message): Promise<void> {
    const fds = [...message.fds];
    this.#served.count("messages");
    try {
      if (message.isReply || !isWellFormed(message)) throw new Refusal("malformed");
      const answered = await this.#handle(message, fds);
      if (!answered) this.#acknowledge(message, 0);
    } catch (error) {
      this.#refuse(message, error instanceof Refusal ? error.message : "hostFailure", error);
    } finally {
      closeAll(fds);
    }
  }

  #refuse(message: Message, reason: string, error: unknown): void {
    this.#served.count(`refused.${reason}`);
    const detail = error instanceof Error && !(error instanceof Refusal) ? `: ${error.message}` : "";
    this.#options.say(`${requestName(message.request)} refused: ${reason}${detail}`);
    const answers = message.needsReply && this.#has(ProtocolFeature.REPLY_ACK);
    if (answers && reason !== "malformed") this.#acknowledge(message, 1);
    else this.#connection.close(reason);
  }

  #acknowledge({ request, needsReply }: Message, failure: number): void {
    if (needsReply && this.#has(ProtocolFeature.REPLY_ACK)) this.#reply(request, u64Payload(failure));
  }

  #reply(request: number, payload: Uint8Array, fds: readonly number[] = []): true {
    this.#connection.send(request, HeaderFlag.REPLY, payload, fds);
    return true;
  }

  #has(feature: number): boolean {
    return this.#protocol.has(feature);
  }

  /**
   * Does what the message asks. True where it has been answered.
   * @param fds those that are kept are taken out
   */
  async #handle({ request, payload }: Message, fds: number[]): Promise<boolean> {
    switch (request) {
      case Request.GET_FEATURES:
        return this.#reply(request, u64Payload(this.#served.offered));
      case Request.SET_FEATURES:
        await this.#setFeatures(featuresIn(payload));
        return false;
      case Request.GET_PROTOCOL_FEATURES:
        return this.#reply(request, u64Payload(this.#offeredProtocol));
      case Request.SET_PROTOCOL_FEATURES:
        this.#protocol = featuresIn(payload);
        if (!this.#protocol.isSubsetOf(this.#offeredProtocol)) throw new Refusal("protocolFeature");
        return false;
      case Request.SET_OWNER:
      case Request.RESET_OWNER: // "back-ends either ignore this message"
      case Request.SET_LOG_FD:
        return false;
      case Request.GET_QUEUE_NUM:
        return this.#reply(request, u64Payload(this.#served.queueNum));
      case Request.SET_MEM_TABLE:
      case Request.ADD_MEM_REG:
      case Request.REM_MEM_REG:
        await this.#setMemory(request, payload, fds);
        return false;
      case Request.GET_MAX_MEM_SLOTS:
        return this.#reply(request, u64Payload(MAX_MEM_SLOTS));
      case Request.SET_LOG_BASE:
        return this.#setLog(payload, fds);
      case Request.GET_CONFIG:
        return this.#getConfig(payload);
      case Request.SET_CONFIG:
        this.#setConfig(payload);
        return false;
      case Request.GET_INFLIGHT_FD:
        return this.#getInflight(payload);
      case Request.SET_INFLIGHT_FD:
        this.#setInflight(payload, fds);
        return false;
      case Request.SET_BACKEND_REQ_FD:
        this.#setChannel(fds);
        return false;
      case Request.RESET_DEVICE:
        await this.#reset();
        return false;
      case Request.SET_STATUS:
        await this.#setStatus(payload.getUint8(0));
        return false;
      case Request.GET_STATUS:
        return this.#reply(request, u64Payload(this.#status));
      default:
        return this.#handleRing(request, payload, fds);
    }
  }

  async #handleRing(request: number, payload: DataView, fds: number[]): Promise<boolean> {
    const number = payload.byteLength >= 8 ? payload.getUint32(0, true) : 0;
    const isFd =
      request === Request.SET_VRING_KICK ||
      request === Request.SET_VRING_CALL ||
      request === Request.SET_VRING_ERR;
    const index = isFd ? number & VringFd.INDEX_MASK : number;
    const ring = this.#rings.at(index);
    if (ring === undefined) throw new Refusal(payload.byteLength >= 8 ? "noSuchRing" : "unknownMessage");
    switch (request) {
      case Request.SET_VRING_NUM: {
        const size = payload.getUint32(4, true);
        if (size === 0 || size > MAX_RING_SIZE || (size & (size - 1)) !== 0) throw new Refusal("ringSize");
        this.#whileStopped(ring);
        ring.size = size;
        return false;
      }
      case Request.SET_VRING_ADDR:
        this.#setRingAddress(ring, payload);
        break;
      case Request.SET_VRING_BASE:
        this.#whileStopped(ring);
        ring.base = payload.getUint32(4, true);
        ring.isBaseSet = true;
        return false;
      case Request.GET_VRING_BASE:
        return this.#reply(request, statePayload(index, await this.#rings.stop(index, ring)));
      case Request.SET_VRING_ENABLE:
        this.#rings.enable(index, ring, payload.getUint32(4, true) === 1);
        break;
      case Request.SET_VRING_KICK:
        this.#keep(fds, (fd) =>
          ring.setKick(fd, () => {
            this.#rings.kicked(index);
          }),
        );
        ring.isStarted = true;
        break;
      case Request.SET_VRING_CALL:
        this.#keep(fds, (fd) => ring.setCall(fd));
        // One that came too late for the last interrupt must hear of it.
        if (ring.queue !== undefined) ring.call?.signal();
        return false;
      case Request.SET_VRING_ERR:
        this.#keep(fds, (fd) => ring.setError(fd));
        return false;
      default:
        throw new Refusal("unknownMessage");
    }
    await this.#rings.sync();
    return false;
  }

  /** Hands the one descriptor over, if there is one. */
  #keep(fds: number[], use: (fd: number | undefined) => boolean): void {
    if (!use(fds[0])) throw new Refusal("notAnEventCounter");
    fds.length = 0;
  }

  #whileStopped(ring: Ring): void {
    if (ring.queue !== undefined) throw new Refusal("ringIsRunning");
  }

  #setRingAddress(ring: Ring, payload: DataView): void {
    const desc = u64(payload, VringAddress.DESC);
    const used = u64(payload, VringAddress.USED);
    const avail = u64(payload, VringAddress.AVAIL);
    if (desc === undefined || used === undefined || avail === undefined) throw new Refusal("ringAddress");
    const old = ring.addresses;
    // While a migration begins it comes again, with nothing new but that the used ring is to be logged.
    if (ring.queue !== undefined && (old?.desc !== desc || old.used !== used || old.avail !== avail)) {
      throw new Refusal("ringIsRunning");
    }
    ring.addresses = { desc, used, avail };
  }

  async #setFeatures(chosen: FeatureSet): Promise<void> {
    const features = this.#served.accept(chosen);
    if (typeof features === "string") throw new Refusal(features);
    this.#log.isOn = features.has(VhostFeature.LOG_ALL);
    const plain = new FeatureSet(features.low & ~(1 << VhostFeature.LOG_ALL), features.high);
    this.#rings.setFeatures(plain, !features.has(VhostFeature.PROTOCOL_FEATURES));
    await this.#rings.sync();
  }

  async #setMemory(request: number, payload: DataView, fds: readonly number[]): Promise<void> {
    const { table } = this.#rings;
    const options = {
      createMemory: this.#options.createMemory,
      log: this.#log,
      sealed: this.#options.sealedMemory,
    };
    const regions = regionsIn(payload);
    const [first] = regions;
    let next: RegionTable | string | undefined;
    if (request === Request.SET_MEM_TABLE && regions.length === payload.getUint32(0, true)) {
      next = regions.length > MAX_TABLE_REGIONS ? "regions" : table.replaced(regions, fds, options);
    } else if (first !== undefined && request === Request.ADD_MEM_REG) {
      next = table.with(first, fds[0] ?? -1, options);
    } else if (first !== undefined) {
      next = table.without(first, options.createMemory, this.#log) ?? "noSuchRegion";
    }
    if (next === undefined) throw new Refusal("regionAddress");
    if (typeof next === "string") throw new Refusal(next);
    await this.#rings.setTable(next);
    await this.#rings.sync();
  }

  #setLog(payload: DataView, fds: readonly number[]): boolean {
    const [size, offset] = [u64(payload, 0), u64(payload, 8)];
    if (size === undefined || offset === undefined || !this.#log.share(fds[0] ?? -1, size, offset)) {
      throw new Refusal("log");
    }
    return this.#reply(Request.SET_LOG_BASE, u64Payload(0));
  }

  #getConfig(payload: DataView): boolean {
    const offset = payload.getUint32(ConfigHeader.OFFSET, true);
    const size = payload.getUint32(ConfigHeader.SIZE, true);
    // No payload says that it went wrong.
    if (offset + size > MAX_CONFIG) return this.#reply(Request.GET_CONFIG, new Uint8Array(0));
    const answer = new Uint8Array(ConfigHeader.LENGTH + size);
    const view = viewOf(answer);
    view.setUint32(ConfigHeader.OFFSET, offset, true);
    view.setUint32(ConfigHeader.SIZE, size, true);
    // Fields behind the device's last are of features it does not offer.
    answer.set(this.#served.device.config.subarray(offset, offset + size), ConfigHeader.LENGTH);
    return this.#reply(Request.GET_CONFIG, answer);
  }

  #setConfig(payload: DataView): void {
    const { device } = this.#served;
    const offset = payload.getUint32(ConfigHeader.OFFSET, true);
    const bytes = new Uint8Array(
      payload.buffer,
      payload.byteOffset + ConfigHeader.LENGTH,
      payload.byteLength - ConfigHeader.LENGTH,
    );
    if (offset + bytes.length > device.config.length) throw new Refusal("configRange");
    if (payload.getUint32(ConfigHeader.FLAGS, true) === ConfigHeader.MIGRATION) {
      device.config.set(bytes, offset);
      return;
    }
    const view = viewOf(bytes);
    for (let at = 0; at < bytes.length; ) {
      const width: IoWidth = bytes.length - at >= 4 ? 4 : bytes.length - at >= 2 ? 2 : 1;
      const value =
        width === 4 ? view.getUint32(at, true) : width === 2 ? view.getUint16(at, true) : view.getUint8(at);
      this.#served.writeConfig(offset + at, width, value);
      at += width;
    }
  }

  #getInflight(payload: DataView): boolean {
    const queues = payload.getUint16(InflightDescription.NUM_QUEUES, true);
    const size = payload.getUint16(InflightDescription.QUEUE_SIZE, true);
    if (queues === 0 || queues > this.#rings.count || size === 0) throw new Refusal("inflight");
    const length = InflightMemory.lengthOf({ queues, size, isPacked: this.#rings.isPacked });
    const fd = createMemfd("vhost-user requests in flight", length);
    const answer = new Uint8Array(payload.byteLength);
    const view = viewOf(answer);
    setU64(view, InflightDescription.MMAP_SIZE, length);
    view.setUint16(InflightDescription.NUM_QUEUES, queues, true);
    view.setUint16(InflightDescription.QUEUE_SIZE, size, true);
    this.#reply(Request.GET_INFLIGHT_FD, answer, [fd]);
    close(fd);
    return true;
  }

  #setInflight(payload: DataView, fds: readonly number[]): void {
    const offset = u64(payload, InflightDescription.MMAP_OFFSET);
    const queues = payload.getUint16(InflightDescription.NUM_QUEUES, true);
    const size = payload.getUint16(InflightDescription.QUEUE_SIZE, true);
    const isPossible = offset !== undefined && queues > 0 && queues <= this.#rings.count && size > 0;
    if (!isPossible || this.#rings.isAnyOpen) throw new Refusal("inflight");
    const memory = InflightMemory.map(fds[0] ?? -1, offset, {
      queues,
      size,
      isPacked: this.#rings.isPacked,
    });
    if (memory === undefined) throw new Refusal("inflight");
    this.#rings.setInflight(memory);
  }

  #setChannel(fds: number[]): void {
    const [fd] = fds;
    if (fd === undefined) return;
    setNonBlocking(fd);
    if (this.#channel !== undefined) close(this.#channel);
    this.#channel = fd;
    fds.length = 0;
  }

  #sendConfigChange(): void {
    if (this.#channel === undefined || !this.#has(ProtocolFeature.CONFIG)) return;
    const message = new Uint8Array(Header.LENGTH);
    const view = viewOf(message);
    view.setUint32(Header.REQUEST, BackendRequest.CONFIG_CHANGE_MSG, true);
    view.setUint32(Header.FLAGS, HeaderFlag.VERSION, true);
    this.#served.count("configChanges");
    let sent: number | undefined;
    try {
      sent = sendMessage(this.#channel, message);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
    }
    if (sent === undefined) this.#served.count("configChangesLost");
  }

  async #reset(): Promise<void> {
    await this.#rings.stopAll();
    for (let index = 0; index < this.#rings.count; index++) {
      const ring = this.#rings.at(index);
      if (ring !== undefined) this.#rings.enable(index, ring, false);
    }
    await this.#served.reset();
    this.#status = 0;
  }

  /** A status of 0 comes with every stop of a front end's machine, not only with a driver's reset: see `start`. */
  async #setStatus(status: number): Promise<void> {
    if (status === 0) await this.#rings.stopAll();
    this.#status = status === 0 ? 0 : (this.#status & Status.DEVICE_NEEDS_RESET) | status;
  }
}

/** Empty where an address is none. */
function regionsIn(payload: DataView): readonly RegionDescription[] {
  const regions: RegionDescription[] = [];
  for (let at = Region.FIRST; at + Region.LENGTH <= payload.byteLength; at += Region.LENGTH) {
    const gpa = u64(payload, at + Region.GUEST_ADDRESS);
    const size = u64(payload, at + Region.SIZE);
    const userAddress = u64(payload, at + Region.USER_ADDRESS);
    const mmapOffset = u64(payload, at + Region.MMAP_OFFSET);
    if (gpa === undefined || size === undefined || userAddress === undefined || mmapOffset === undefined)
      return [];
    regions.push({ gpa, size, userAddress, mmapOffset });
  }
  return regions;
}
