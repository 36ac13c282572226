import type { Clock } from "./clock.ts";
import type { ConfigSchema } from "./config-schema.ts";
import type { DirectoryBackend } from "./directory.ts";
import type { BlockBackend, ByteSink, CharBackend, NetBackend } from "./host.ts";
import { type Token, token } from "./token.ts";
import type { VsockBackend } from "./vsock.ts";

/**
 * A host resource as a device's config names it: what kind of back end, and that kind's own options. Options called
 * `path`, at any depth, are files of the host: relative to the config's file there, absolute when a device or a kind
 * sees them.
 */
export interface HostEndOptions {
  readonly kind: string;
  readonly [option: string]: unknown;
}

/** A character back end that is given up with the machine. */
export type CharEnd = CharBackend & { close?(): void | Promise<void> };

/** Sorts of host resources, and what a device gets of each. */
export interface HostEndBackends {
  readonly block: BlockBackend;
  readonly char: CharEnd;
  readonly net: NetBackend;
  readonly directory: DirectoryBackend;
  readonly vsock: VsockBackend;
}

export type HostEndSort = keyof HostEndBackends;

/**
 * Option → sort, for options that are `HostEndOptions` themselves. `ports.*.to` is the option `to` of each element of
 * the list `ports`.
 */
export type HostEndSlots = Readonly<Record<string, HostEndSort>>;

/**
 * Opens resources of the host for devices, which never do so themselves. All throw `NB_CONFIG` where the options are
 * wrong and `NB_HOST` where the host refuses; the device closes what it was given.
 */
export interface HostEnds {
  block(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<BlockBackend>;
  char(options: HostEndOptions): Promise<CharEnd>;
  net(options: HostEndOptions): Promise<NetBackend>;
  directory(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<DirectoryBackend>;
  vsock(options: HostEndOptions): Promise<VsockBackend>;
}

/** Provided by the machine. */
export const HostEnds: Token<HostEnds> = token<HostEnds>("hostEnds");

/** What a kind may ask of the machine for which it opens a back end. */
export interface HostEndContext {
  /** Id of the device: for messages and for names that the host shows. */
  readonly device: string;
  /** `block`, `directory`: the device will never write. False for other sorts. */
  readonly readOnly: boolean;
  /** Guest time, and timers on it. */
  readonly clock: Clock;
  /** The machine's console. */
  readonly console: CharBackend;
  /** Where to put what a person should read. */
  readonly log: ByteSink;
  /** Opens the back ends under this one: an image's file, a capture's link. Whoever opens closes. */
  readonly ends: HostEnds;
  /** Counters for `--stats`, asked for until the machine closes. */
  onStats(counters: () => Readonly<Record<string, number>>): void;
}

/**
 * A kind of host end: `{ kind: qcow2, … }` in a config. Packages export what `defineHostEnd` of the SDK made; a
 * `PluginRegistry` collects them beside plugins.
 */
export interface HostEndKind<Sort extends HostEndSort = HostEndSort, In = unknown, Out = unknown> {
  /** As configs write it. Unique among the kinds of its sort. */
  readonly kind: string;
  readonly of: Sort;
  /** Checks the options without `kind`: a mapping. */
  readonly options: ConfigSchema<In, Out>;
  /** Options that are host ends in turn, checked with their kinds' schemas; `options` lets them through. */
  readonly ends?: HostEndSlots;
  /** Throws `NB_CONFIG` or `NB_HOST`; the machine says in front where in the config. */
  open(options: Out, context: HostEndContext): HostEndBackends[Sort] | Promise<HostEndBackends[Sort]>;
  /**
   * For a machine that is checked and never runs: finds out what `open` would refuse, as far as that can be without changing
   * anything of the host or having anybody at the other end notice. Throws as `open` does. Gives what is known of the end,
   * such as a disk's size; nothing else of that is used. @defaultValue nothing is known; of a directory, `open`
   */
  tryOpen?(
    options: Out,
    context: HostEndContext,
  ): HostEndBackends[Sort] | undefined | Promise<HostEndBackends[Sort] | undefined>;
}

/** Random bytes of cryptographic quality; under a `virtual` clock the same ones in every run. */
export interface EntropySource {
  fill(into: Uint8Array): void;
}

/** Provided by the machine. */
export const Entropy: Token<EntropySource> = token<EntropySource>("entropy");
