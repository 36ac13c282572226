import type { EventFd } from "@northbridge/linux";
import type { FeatureSet } from "@northbridge/sdk/virtio";

/** Memory that a front end shares. */
export interface SharedRegion {
  readonly gpa: number;
  /** Bytes. */
  readonly size: number;
  /** Where this process says that it has the memory: any number that is unique to the region; its address for a kernel. */
  readonly userAddress: number;
  /** Of the file that holds it; −1 where only this process has it. */
  readonly fd: number;
  readonly offset: number;
}

/** Where a ring is, in the front end's addresses, and where in it the back end goes on. */
export interface RingPlace {
  readonly size: number;
  readonly base: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/** What serves a device's rings: a process at a socket (vhost-user), or the kernel (vhost). Rejects with `NB_HOST`. */
export interface RingServer {
  /** What it offers. */
  readonly features: FeatureSet;
  setFeatures(features: FeatureSet): Promise<void>;
  setMemory(regions: readonly SharedRegion[]): Promise<void>;
  /** Starts a ring; it is served once it is enabled. */
  startRing(index: number, place: RingPlace, kick: EventFd, call: EventFd): Promise<void>;
  enableRing(index: number, isEnabled: boolean): Promise<void>;
  /** Stops a ring: where in it the next one goes on. Nothing touches ring or memory any more. */
  stopRing(index: number): Promise<number>;
  /** The device's configuration space; `undefined` where it is not the server's. */
  config?(length: number): Promise<Uint8Array | undefined>;
  setConfig?(offset: number, bytes: Uint8Array): Promise<void>;
  close(): void;
}
