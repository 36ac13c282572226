import { close, connectUnix, type EventFd, socketPair } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import { FeatureSet } from "@northbridge/sdk/virtio";
import { Connection, type Message } from "../protocol/connection.ts";
import { featuresIn, setU64, statePayload, u64, u64Payload, viewOf } from "../protocol/payload.ts";
import {
  BackendRequest,
  ConfigHeader,
  HeaderFlag,
  InflightDescription,
  ProtocolFeature,
  Region,
  Request,
  requestName,
  VhostFeature,
  VringAddress,
  VringFd,
} from "../protocol/spec.ts";
import type { RingPlace, RingServer, SharedRegion } from "./ring-server.ts";

/** A back end's memory of requests in flight. The descriptor belongs to who holds this. */
export interface Inflight {
  readonly fd: number;
  readonly size: number;
  readonly offset: number;
  readonly queues: number;
  readonly queueSize: number;
}

export interface FrontEndOptions {
  /** How long a back end may take for an answer. @defaultValue 10 000 */
  readonly timeoutMs?: number;
  /** The device's configuration space has changed. */
  readonly configChanged?: () => void;
  /** The back end is gone. */
  readonly closed?: (reason: string) => void;
}

interface Pending {
  readonly request: number;
  readonly resolve: (message: Message) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

const WANTED = FeatureSet.of([
  ProtocolFeature.MQ,
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.CONFIG,
  ProtocolFeature.INFLIGHT_SHMFD,
  ProtocolFeature.RESET_DEVICE,
]);

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * The front end's side of a vhost-user connection: one method per thing to ask of a back end. All reject with
 * `NB_HOST` where the back end refuses, answers something else, takes too long or is gone.
 */
export class FrontEnd implements RingServer {
  /** What the back end offers, protocol features apart. */
  features: FeatureSet = new FeatureSet();
  /** Protocol features agreed on. */
  protocol: FeatureSet = new FeatureSet();
  readonly #connection: Connection;
  readonly #options: FrontEndOptions;
  readonly #pending: Pending[] = [];
  #channel: Connection | undefined;
  #closedBy: string | undefined;

  /** @param fd a connected Unix stream socket, this object's from now on */
  constructor(fd: number, options: FrontEndOptions = {}) {
    this.#options = options;
    this.#connection = new Connection(fd, {
      message: (message) => {
        this.#answered(message);
      },
      closed: (reason) => {
        this.#closedBy = reason;
        this.#channel?.close(reason);
        for (const { reject, timer, request } of this.#pending.splice(0)) {
          clearTimeout(timer);
          reject(this.#error(request, `the back end is gone: ${reason}`));
        }
        options.closed?.(reason);
      },
    });
  }

  /** Connects to who listens at `path`. Throws `NB_HOST`. */
  static connect(path: string, options: FrontEndOptions = {}): FrontEnd {
    try {
      return new FrontEnd(connectUnix(path), options);
    } catch (cause) {
      throw new NorthbridgeError("NB_HOST", cause instanceof Error ? cause.message : String(cause), {
        cause,
      });
    }
  }

  get isClosed(): boolean {
    return this.#closedBy !== undefined;
  }

  has(feature: number): boolean {
    return this.protocol.has(feature);
  }

  close(): void {
    this.#connection.close("stopped");
  }

  /**
   * Asks for features, agrees on protocol features and claims the device.
   * @param wanted protocol features to agree on if there are any
   */
  async negotiate(wanted: FeatureSet = WANTED): Promise<void> {
    this.features = featuresIn(await this.#ask(Request.GET_FEATURES));
    if (this.features.has(VhostFeature.PROTOCOL_FEATURES)) {
      const offered = featuresIn(await this.#ask(Request.GET_PROTOCOL_FEATURES));
      this.protocol = new FeatureSet(offered.low & wanted.low, offered.high & wanted.high);
      this.#send(Request.SET_PROTOCOL_FEATURES, u64Payload(this.protocol));
    }
    this.#send(Request.SET_OWNER);
    if (this.has(ProtocolFeature.BACKEND_REQ)) await this.#openChannel();
  }

  async queueNum(): Promise<number | undefined> {
    if (!this.has(ProtocolFeature.MQ)) return undefined;
    return u64(await this.#ask(Request.GET_QUEUE_NUM), 0);
  }

  /** @param features of device and queues; the bit of protocol features comes by itself */
  async setFeatures(features: FeatureSet): Promise<void> {
    const own = this.features.has(VhostFeature.PROTOCOL_FEATURES) ? 1 << VhostFeature.PROTOCOL_FEATURES : 0;
    await this.#tell(Request.SET_FEATURES, u64Payload(new FeatureSet(features.low | own, features.high)));
  }

  async setMemory(regions: readonly SharedRegion[]): Promise<void> {
    const payload = new Uint8Array(Region.FIRST + Region.LENGTH * regions.length);
    const view = viewOf(payload);
    view.setUint32(0, regions.length, true);
    regions.forEach(({ gpa, size, userAddress, offset }, index) => {
      const at = Region.FIRST + Region.LENGTH * index;
      setU64(view, at + Region.GUEST_ADDRESS, gpa);
      setU64(view, at + Region.SIZE, size);
      setU64(view, at + Region.USER_ADDRESS, userAddress);
      setU64(view, at + Region.MMAP_OFFSET, offset);
    });
    const fds = regions.map(({ fd }) => fd);
    await this.#tell(Request.SET_MEM_TABLE, payload, fds);
  }

  /** The configuration space; undefined where the back end has none to show. */
  async config(length: number): Promise<Uint8Array | undefined> {
    if (!this.has(ProtocolFeature.CONFIG)) return undefined;
    const question = new Uint8Array(ConfigHeader.LENGTH + length);
    viewOf(question).setUint32(ConfigHeader.SIZE, length, true);
    const answer = await this.#ask(Request.GET_CONFIG, question);
    if (answer.byteLength !== question.length)
      throw this.#error(Request.GET_CONFIG, "no configuration space");
    return new Uint8Array(answer.buffer, answer.byteOffset + ConfigHeader.LENGTH, length).slice();
  }

  async setConfig(offset: number, bytes: Uint8Array): Promise<void> {
    const payload = new Uint8Array(ConfigHeader.LENGTH + bytes.length);
    const view = viewOf(payload);
    view.setUint32(ConfigHeader.OFFSET, offset, true);
    view.setUint32(ConfigHeader.SIZE, bytes.length, true);
    payload.set(bytes, ConfigHeader.LENGTH);
    await this.#tell(Request.SET_CONFIG, payload);
  }

  /** Memory in which the back end notes what is in flight; undefined where it does not. */
  async inflight(queues: number, queueSize: number): Promise<Inflight | undefined> {
    if (!this.has(ProtocolFeature.INFLIGHT_SHMFD)) return undefined;
    const question = new Uint8Array(InflightDescription.PADDED_LENGTH);
    const view = viewOf(question);
    view.setUint16(InflightDescription.NUM_QUEUES, queues, true);
    view.setUint16(InflightDescription.QUEUE_SIZE, queueSize, true);
    const { payload, fds } = await this.#exchange(Request.GET_INFLIGHT_FD, question);
    const [fd, ...more] = fds;
    for (const other of more) close(other);
    const size = payload.byteLength < InflightDescription.LENGTH ? undefined : u64(payload, 0);
    const offset = size === undefined ? undefined : u64(payload, InflightDescription.MMAP_OFFSET);
    if (fd === undefined || size === undefined || offset === undefined) {
      if (fd !== undefined) close(fd);
      throw this.#error(Request.GET_INFLIGHT_FD, "no memory came");
    }
    return { fd, size, offset, queues, queueSize };
  }

  async setInflight({ fd, size, offset, queues, queueSize }: Inflight): Promise<void> {
    const payload = new Uint8Array(InflightDescription.PADDED_LENGTH);
    const view = viewOf(payload);
    setU64(view, InflightDescription.MMAP_SIZE, size);
    setU64(view, InflightDescription.MMAP_OFFSET, offset);
    view.setUint16(InflightDescription.NUM_QUEUES, queues, true);
    view.setUint16(InflightDescription.QUEUE_SIZE, queueSize, true);
    await this.#tell(Request.SET_INFLIGHT_FD, payload, [fd]);
  }

  /** Starts a ring; it is served once it is enabled. */
  async startRing(index: number, place: RingPlace, kick: EventFd, call: EventFd): Promise<void> {
    await this.#tell(Request.SET_VRING_NUM, statePayload(index, place.size));
    await this.#tell(Request.SET_VRING_BASE, statePayload(index, place.base));
    const address = new Uint8Array(VringAddress.LENGTH);
    const view = viewOf(address);
    view.setUint32(VringAddress.INDEX, index, true);
    setU64(view, VringAddress.DESC, place.desc);
    setU64(view, VringAddress.USED, place.used);
    setU64(view, VringAddress.AVAIL, place.avail);
    await this.#tell(Request.SET_VRING_ADDR, address);
    const which = u64Payload(index & VringFd.INDEX_MASK);
    await this.#tell(Request.SET_VRING_CALL, which, [call.fd]);
    await this.#tell(Request.SET_VRING_KICK, which, [kick.fd]);
  }

  async enableRing(index: number, isEnabled: boolean): Promise<void> {
    if (!this.features.has(VhostFeature.PROTOCOL_FEATURES)) return;
    await this.#tell(Request.SET_VRING_ENABLE, statePayload(index, isEnabled ? 1 : 0));
  }

  /** Stops a ring: where in it the next back end goes on. */
  async stopRing(index: number): Promise<number> {
    const answer = await this.#ask(Request.GET_VRING_BASE, statePayload(index, 0));
    if (answer.byteLength !== 8) throw this.#error(Request.GET_VRING_BASE, "no position came");
    return answer.getUint32(4, true);
  }

  /** False where the back end knows no such thing. */
  async reset(): Promise<boolean> {
    if (!this.has(ProtocolFeature.RESET_DEVICE)) return false;
    await this.#tell(Request.RESET_DEVICE);
    return true;
  }

  async #openChannel(): Promise<void> {
    const [ours, theirs] = socketPair();
    this.#channel = new Connection(ours, {
      message: ({ request, needsReply, fds }) => {
        for (const fd of fds) close(fd);
        if (request === BackendRequest.CONFIG_CHANGE_MSG) this.#options.configChanged?.();
        if (needsReply) this.#channel?.send(request, HeaderFlag.REPLY, u64Payload(0));
      },
      closed: () => undefined,
    });
    try {
      await this.#tell(Request.SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]);
    } finally {
      close(theirs);
    }
  }

  /** A request that has no answer of its own: waits for the acknowledgement where there are some. */
  async #tell(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
  ): Promise<void> {
    if (!this.has(ProtocolFeature.REPLY_ACK)) {
      this.#send(request, payload, fds);
      return;
    }
    const answer = await this.#exchange(request, payload, fds, HeaderFlag.NEED_REPLY);
    const result = answer.payload.byteLength === 8 ? u64(answer.payload, 0) : undefined;
    if (result !== 0) throw this.#error(request, "refused");
  }

  async #ask(request: number, payload?: Uint8Array): Promise<DataView> {
    const answer = await this.#exchange(request, payload);
    for (const fd of answer.fds) close(fd);
    const shortest = request === Request.GET_CONFIG ? 0 : 8;
    if (answer.payload.byteLength < shortest) throw this.#error(request, "the answer is too short");
    return answer.payload;
  }

  #exchange(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): Promise<Message> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#connection.close("timeout");
      }, this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
      this.#pending.push({ request, resolve, reject, timer });
      this.#send(request, payload, fds, flags);
    });
  }

  #send(request: number, payload?: Uint8Array, fds: readonly number[] = [], flags = 0): void {
    if (this.#closedBy !== undefined) {
      const pending = this.#pending.pop();
      clearTimeout(pending?.timer);
      const error = this.#error(request, `the back end is gone: ${this.#closedBy}`);
      if (pending === undefined) throw error;
      pending.reject(error);
      return;
    }
    this.#connection.send(request, flags, payload, fds);
  }

  #answered(message: Message): void {
    const pending = this.#pending.shift();
    if (pending?.request !== message.request || !message.isReply) {
      for (const fd of message.fds) close(fd);
      if (pending !== undefined) this.#pending.unshift(pending);
      this.#connection.close("unexpectedAnswer");
      return;
    }
    clearTimeout(pending.timer);
    pending.resolve(message);
  }

  #error(request: number, reason: string): NorthbridgeError {
    return new NorthbridgeError("NB_HOST", `vhost-user ${requestName(request)}: ${reason}`);
  }
}
