import type { ClockKind } from "./clock.ts";
import type { DeviceEntry } from "./plugin.ts";

/** A device as JSON or YAML writes it: `{ plugin: serial, id: com1, at: com1 }`. */
export interface DeviceReference {
  readonly plugin: string;
  readonly id?: string;
  readonly [option: string]: unknown;
}

/** A whole machine, as data. Paths in it are relative to the file that holds it. */
export interface MachineConfig {
  readonly name?: string;
  /** Fixes the guest-visible topology. @defaultValue `"pc-1"`; `"bare-1"` has no device but those listed. */
  readonly machine?: string;
  readonly backend?: "auto" | "kvm" | "soft";
  readonly clock?: ClockKind;
  readonly memory: { readonly mib: number };
  readonly vcpus?: number;
  readonly cpu?: CpuConfig;
  readonly boot?: BootConfig;
  readonly onReset?: "restart" | "stop";
  /** Falsy entries are dropped, so that `cond && serial()` works. */
  readonly devices?: readonly (DeviceEntry | DeviceReference | false | undefined | null)[];
}

/** The processor as CPUID shows it to the guest. */
export interface CpuConfig {
  /** One of the backend's models, its default if absent: `x86-64-v2` of the software CPU, `host` under KVM. */
  readonly model?: string;
  /** Features by their names in Linux's `/proc/cpuinfo`, in any punctuation: shown or hidden, unlike in the model. */
  readonly features?: Readonly<Record<string, boolean>>;
  /**
   * Rate of the time-stamp counter. Absent: the host's under KVM, 1 GHz on the software CPU. A guest that moves takes
   * its rate along; not every KVM can have another than the host's.
   */
  readonly tscKhz?: number;
}

/** How the guest starts. `kernel` is a bzImage, an ELF `vmlinux`, or a flat image with `flat`. */
export interface BootConfig {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly cmdline?: string;
  /** A bare-metal image loaded at `gpa` and entered there in `mode`. */
  readonly flat?: {
    readonly image: string;
    readonly gpa: number;
    readonly entry?: number;
    readonly mode: "real" | "protected" | "long";
  };
  /** `auto` unpacks a bzImage on the host and enters the ELF inside. @defaultValue `"auto"` */
  readonly protocol?: "auto" | "bzimage" | "elf64" | "pvh";
}

/**
 * The fixed, guest-visible hardware of a kind of machine: addresses, slots, interrupt numbers.
 * A published version never changes; the next one gets a new name (`pc-2`).
 */
export interface MachineType {
  /** `pc-1`, `bare-1`: what a config's `machine` says and a snapshot records. */
  readonly name: string;
  /**
   * Where RAM lies. `pc`: a hole for video memory at 0xA0000, 0xC0000–0xFFFFF reserved for firmware tables, RAM up to
   * 3 GiB, the rest from 4 GiB. `flat`: RAM from 0 up to 3 GiB, the rest from 4 GiB. @defaultValue `"pc"`
   */
  readonly layout?: "pc" | "flat";
  /** Devices that are there without being listed. A listed device with the id of an implied one replaces it. */
  devices(config: MachineConfig): readonly DeviceEntry[];
}
