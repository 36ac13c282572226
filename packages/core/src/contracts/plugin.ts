import type { ConfigSchema } from "./config-schema.ts";
import type { Clock } from "./clock.ts";
import type { ByteSink, CharBackend } from "./host.ts";
import type { HostEndSlots } from "./host-ends.ts";
import type { InterruptLine, MsiTarget } from "./interrupt.ts";
import type { IoHandler, IoRegion, Unmap } from "./io.ts";
import type { PowerControl, Resettable, Snapshottable } from "./lifecycle.ts";
import type { GuestMemory, MemorySlot } from "./memory.ts";
import type { FirmwareEntry } from "./firmware.ts";
import { type Token, token } from "./token.ts";

/** What a device plugin may ask of its machine. The DI container is never visible here. */
export interface DeviceContext {
  /** Instance name, unique within the machine: snapshot key and log prefix. */
  readonly id: string;
  readonly clock: Clock;
  readonly memory: GuestMemory;
  /** What the plugin's `memoryBytes` asked for: zeroes at first, and in no memory map of the firmware's. */
  readonly ownMemory?: MemorySlot | undefined;
  readonly power: PowerControl;
  readonly msi: MsiTarget;
  /** Throws `NB_MISSING_TOKEN` where nobody provides it. */
  get<T>(token: Token<T>): T;
  /** Like `get`, but `undefined` where nobody provides it. */
  find<T>(token: Token<T>): T | undefined;
  /** Offers a service to plugins that require it. Throws `NB_DUPLICATE_TOKEN` naming both plugins. */
  provide<T>(token: Token<T>, value: T): void;
  /** Region names default to the device's id. */
  mapPorts(region: Omit<IoRegion, "name"> & { readonly name?: string }, handler: IoHandler): Unmap;
  mapMmio(region: Omit<IoRegion, "name"> & { readonly name?: string }, handler: IoHandler): Unmap;
  /** A line of one's own into GSI `gsi`: lines of several devices on one GSI are ORed. */
  irq(gsi: number): InterruptLine;
  /** Tells the guest's firmware tables of this device. Throws `NB_CONFIG` for a kind that there is not. */
  describe(entry: FirmwareEntry): void;
  /** Runs in reverse order of registration when the machine closes. */
  onClose(fn: () => void | Promise<void>): void;
}

/** What `setup` returns. Whatever it can do of these, the machine will ask of it. */
export type Device = Partial<Resettable> &
  Partial<Snapshottable<unknown>> & {
    /** The machine is about to stop or go on executing. */
    pause?(): void | Promise<void>;
    resume?(): void;
    /** Counters for `--stats`. */
    stats?(): Readonly<Record<string, number>>;
    /** What a person asks of this device at the monitor (`device ID WORDS`): the answer. Throws `NorthbridgeError`. */
    monitorCommand?(words: readonly string[]): Promise<string>;
  };

export interface DevicePluginSpec<In, Out> {
  /** `package/device`, as written in JSON configs; the part after the slash alone is accepted where it is unique. */
  readonly name: string;
  readonly config: ConfigSchema<In, Out>;
  readonly requires?: readonly Token<unknown>[];
  readonly provides?: readonly Token<unknown>[];
  /** Options that are host ends, as in `{ disk: "block" }`: checked with their kinds' schemas; `config` lets them through. */
  readonly ends?: HostEndSlots;
  /** Bytes of guest memory that such a device brings beside the machine's RAM: a multiple of 4096. @defaultValue none */
  memoryBytes?(config: Out): number;
  /** May await host resources. The device it returns must not be async on the guest's path. */
  setup(ctx: DeviceContext, config: Out): Device | Promise<Device>;
}

/** One configured use of a plugin: what a machine's `devices` array holds. */
export interface DeviceEntry {
  readonly spec: DevicePluginSpec<never, never>;
  readonly input: unknown;
  readonly id?: string | undefined;
}

/** A plugin: call it with its config to get an entry for a machine. */
export interface DevicePlugin<In> {
  (input?: In, options?: { readonly id?: string }): DeviceEntry;
  readonly pluginName: string;
  readonly spec: DevicePluginSpec<never, never>;
}

/** The machine's first console: guest output goes to the sink, host input comes from the source. */
export const Console: Token<CharBackend> = token<CharBackend>("console");
/** Where devices put what a person should read; never on the path of an access. */
export const Log: Token<ByteSink> = token<ByteSink>("log");
