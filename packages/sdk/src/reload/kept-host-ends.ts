import type {
  BlockBackend,
  CharEnd,
  DirectoryBackend,
  HostEndOptions,
  HostEnds,
  NetBackend,
  VsockBackend,
} from "@northbridge/core/contracts";
import { WiredEnd } from "./wiring.ts";

type Opened = BlockBackend | CharEnd | NetBackend | VsockBackend;

interface KeptEnd {
  readonly key: string;
  readonly end: Opened;
  readonly wired: WiredEnd<Opened>;
}

/** Host ends that stay open while the code of their device is replaced: who opens the same again gets the same. */
export class KeptHostEnds implements HostEnds {
  readonly #inner: HostEnds;
  #kept: KeptEnd[] = [];
  /** Of the code that may be replaced. */
  #old: readonly KeptEnd[] = [];
  #next = 0;

  constructor(inner: HostEnds) {
    this.#inner = inner;
  }

  /** New code opens its ends from here on, in the order of the old. */
  begin(): void {
    this.#next = 0;
    this.#old = [...this.#kept];
    for (const { wired } of this.#old) wired.remember();
  }

  /** The new code has taken over: what it has no use for is closed. */
  async commit(): Promise<void> {
    this.#kept.length = this.#next;
    await closeThose(this.#old, this.#kept);
  }

  /** The old code goes on: with its own ends, and as their consumer. */
  async rollBack(): Promise<void> {
    const opened = this.#kept;
    this.#kept = [...this.#old];
    this.#next = this.#kept.length;
    await closeThose(opened, this.#kept);
    for (const { wired } of this.#kept) wired.takeBack();
  }

  block(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<BlockBackend> {
    return this.#open(["block", options, use], () => this.#inner.block(options, use));
  }

  char(options: HostEndOptions): Promise<CharEnd> {
    return this.#open(["char", options], () => this.#inner.char(options));
  }

  net(options: HostEndOptions): Promise<NetBackend> {
    return this.#open(["net", options], () => this.#inner.net(options));
  }

  vsock(options: HostEndOptions): Promise<VsockBackend> {
    return this.#open(["vsock", options], () => this.#inner.vsock(options));
  }

  directory(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<DirectoryBackend> {
    // Has nothing to close: new code gets one of its own.
    return this.#inner.directory(options, use);
  }

  /** Gives all up with the machine. */
  async close(): Promise<void> {
    for (const { end } of this.#kept.splice(0)) await end.close?.();
  }

  async #open<E extends Opened>(what: unknown, open: () => Promise<E>): Promise<E> {
    const key = JSON.stringify(what);
    const at = this.#next++;
    const known = this.#kept[at];
    if (known?.key === key) return known.wired.shown as E;
    const end = await open();
    const wired = new WiredEnd<Opened>(end);
    this.#kept[at] = { key, end, wired };
    return wired.shown as E;
  }
}

/** Closes ends that are not among those to keep. */
async function closeThose(ends: readonly KeptEnd[], toKeep: readonly KeptEnd[]): Promise<void> {
  for (const kept of ends) if (!toKeep.includes(kept)) await kept.end.close?.();
}
