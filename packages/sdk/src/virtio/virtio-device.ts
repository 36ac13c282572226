import type { Device, DeviceContext, GuestMemory, IoWidth, Token } from "@northbridge/core/contracts";
import { token } from "@northbridge/core/contracts";
import type { FeatureSet } from "./feature-set.ts";
import type { VirtQueue } from "./virt-queue.ts";

/** What a started device may use: from DRIVER_OK until `reset`. */
export interface VirtioSession {
  /** What device and driver agreed on. */
  readonly features: FeatureSet;
  readonly memory: GuestMemory;
  /** Undefined while the driver has it disabled. */
  queue(index: number): VirtQueue | undefined;
  /** Tells the driver that the configuration space has changed. */
  configChanged(): void;
  /** The device cannot go on until the driver resets it (§2.1.2). `reason` is counted. */
  fail(reason: string): void;
}

/** A part of the configuration space. */
export interface ConfigPart {
  /** For messages. */
  readonly name: string;
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/**
 * A virtio device without a transport: the same object sits behind PCI, MMIO and vhost-user. All calls come on the
 * machine thread; none may throw for what a driver did.
 */
export interface VirtioDevice {
  /** §5: what kind of device. */
  readonly deviceId: number;
  /** Feature bits 0–23 and 50–63 it offers, by number. The transport adds those of queues and transport. */
  readonly features: readonly number[];
  /** Largest size of each queue, a power of two. */
  readonly queues: readonly number[];
  /** Device configuration space, as the driver reads it. */
  readonly config: Uint8Array;
  /**
   * Parts of the configuration space that say what this device is, and not what has become of it: a saved machine's have
   * to be the same. @defaultValue none
   */
  readonly identity?: readonly ConfigPart[];
  /** The driver wrote to the configuration space. @defaultValue it cannot */
  writeConfig?(offset: number, width: IoWidth, value: number): void;
  /** The driver chose these features: false refuses them, where one lacks another that it needs. @defaultValue accepts */
  acceptFeatures?(features: FeatureSet): boolean;
  /**
   * Which queues are in use, of a device behind vhost-user: its front end says so, and keeps the control queue.
   * @defaultValue all that the driver has enabled
   */
  useQueues?(inUse: readonly boolean[]): void;
  /** The driver is ready. */
  start(session: VirtioSession): void;
  /** There may be requests in a queue. */
  notify(queue: number): void;
  /**
   * Forgets the session. Resolves once no host operation touches guest memory any more; the driver sees the reset
   * complete only then.
   */
  reset(): void | Promise<void>;
  /** As `reset`, for one queue. Its requests are dropped. */
  resetQueue?(queue: number): void | Promise<void>;
  /** Stops producing work. Resolves once no host operation is under way. */
  pause?(): void | Promise<void>;
  /** Goes on; requests that came back from a snapshot are in the queues. */
  resume?(): void;
  /** State beyond queues and configuration space, or undefined where there is none. */
  save(): unknown;
  /** After `start` where the device had been started. Throws `RestoreError`. */
  restore(state: unknown): void;
  stats?(): Readonly<Record<string, number>>;
  /** What a person asks of the device at the monitor: the answer. Throws `NorthbridgeError`. */
  monitorCommand?(words: readonly string[]): Promise<string>;
}

/** Puts a virtio device where a driver finds it. */
export interface VirtioTransport {
  /** Returns what the machine resets, saves and restores: device and transport in one. */
  attach(ctx: DeviceContext, device: VirtioDevice): Device;
}

/** Provided where something else than a machine's own buses carries virtio devices: a vhost-user host. */
export const VirtioTransport: Token<VirtioTransport> = token<VirtioTransport>("virtioTransport");
