import type { ComposedDevice } from "../composition/device-services.ts";
import type { OpenedHostEnd } from "../composition/host-end-opener.ts";
import type { KeyStream } from "../host/entropy.ts";
import type { BootImages } from "../machine/boot-images.ts";
import type { DrivenClock, GuestMemory, MachineConfig, VirtualMachine } from "../contracts/index.ts";

/** What of a machine is saved and restored. */
export interface SnapshotSubject {
  readonly config: MachineConfig;
  readonly machineType: string;
  /** Name of the hypervisor, for people: a snapshot of one backend restores under another. */
  readonly backend: string;
  readonly vm: VirtualMachine;
  readonly clock: DrivenClock;
  readonly memory: GuestMemory;
  readonly devices: readonly ComposedDevice[];
  readonly hostEnds: readonly OpenedHostEnd[];
  readonly images: BootImages;
  /** Random numbers that are the same in every run. */
  readonly keyStream: KeyStream | undefined;
}
