import type { BlockBackend, CharBackend, NetBackend } from "./host.ts";
import { type Token, token } from "./plugin.ts";

/**
 * A host resource as a device's config names it: what kind of back end, and that kind's own options. Options called
 * `path` are files of the host, relative to the config's file.
 */
export interface HostEndOptions {
  readonly kind: string;
  readonly [option: string]: unknown;
}

/** A character back end that is given up with the machine. */
export type CharEnd = CharBackend & { close?(): void | Promise<void> };

/**
 * Opens resources of the host for devices, which never do so themselves. All throw `NB_CONFIG` where the options are
 * wrong and `NB_HOST` where the host refuses; the device closes what it was given.
 */
export interface HostEnds {
  block(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<BlockBackend>;
  char(options: HostEndOptions): Promise<CharEnd>;
  net(options: HostEndOptions): Promise<NetBackend>;
}

/** Provided by the machine. */
export const HostEnds: Token<HostEnds> = token<HostEnds>("hostEnds");

/** Random bytes of cryptographic quality; under a `virtual` clock the same ones in every run. */
export interface EntropySource {
  fill(into: Uint8Array): void;
}

/** Provided by the machine. */
export const Entropy: Token<EntropySource> = token<EntropySource>("entropy");
