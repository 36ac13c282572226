import {
  type BlockBackend,
  type CharEnd,
  type DirectoryBackend,
  type HostEndOptions,
  type HostEnds,
  type NetBackend,
  NorthbridgeError,
  type VsockBackend,
} from "@northbridge/core/contracts";
import { inTurn } from "./in-turn.ts";
import { WiredEnd } from "./wiring.ts";

type Opened = BlockBackend | CharEnd | NetBackend | VsockBackend;

interface KeptEnd {
  readonly key: string;
  readonly sort: "block" | "char" | "net" | "vsock";
  readonly open: () => Promise<Opened>;
  /** Absent while the new code has what it kept others from, such as a file. */
  end: Opened | undefined;
  /** The last time that it was given up. */
  closed?: Promise<void>;
  readonly wired: WiredEnd<Opened>;
}

/** Host ends that stay open while the code of their device is replaced: who opens the same again gets the same. */
export class KeptHostEnds implements HostEnds {
  readonly #inner: HostEnds;
  /** Of the code that was set up last. */
  #kept: KeptEnd[] = [];
  /** Of the code that may be replaced, while it may. */
  #old: readonly KeptEnd[] = [];
  readonly #opening = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(inner: HostEnds) {
    this.#inner = inner;
  }

  /** New code opens its ends from here on. */
  begin(): void {
    this.#old = this.#kept;
    this.#kept = [];
    for (const { wired } of this.#old) wired.remember();
  }

  /** The new code has taken over: what it has no use for is closed. Throws what the host says. */
  async commit(): Promise<void> {
    const left = this.#old.filter((kept) => !this.#kept.includes(kept));
    this.#old = [];
    await inTurn(left.map((kept) => () => release(kept)));
  }

  /**
   * The old code goes on: with its own ends, and as their consumer. Throws what the host says where one that was given up
   * for the new code cannot be had again.
   */
  async rollBack(): Promise<void> {
    // What new code opens at once is not all there yet when one of them fails.
    while (this.#opening.size > 0) await Promise.allSettled(this.#opening);
    const opened = this.#kept.filter((kept) => !this.#old.includes(kept));
    this.#kept = [...this.#old];
    this.#old = [];
    // What the new code had is not the old one's loss.
    await inTurn(opened.map((kept) => () => release(kept))).catch(() => undefined);
    await inTurn(
      this.#kept.map((kept) => async () => {
        if (kept.end === undefined) kept.wired.replace((kept.end = await kept.open()));
        kept.wired.takeBack();
      }),
    );
  }

  block(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<BlockBackend> {
    return this.#open("block", [options, use], () => this.#inner.block(options, use));
  }

  char(options: HostEndOptions): Promise<CharEnd> {
    return this.#open("char", [options], () => this.#inner.char(options));
  }

  net(options: HostEndOptions): Promise<NetBackend> {
    return this.#open("net", [options], () => this.#inner.net(options));
  }

  vsock(options: HostEndOptions): Promise<VsockBackend> {
    return this.#open("vsock", [options], () => this.#inner.vsock(options));
  }

  directory(options: HostEndOptions, use: { readonly readOnly: boolean }): Promise<DirectoryBackend> {
    // Has nothing to close: new code gets one of its own.
    return this.#inner.directory(options, use);
  }

  /** Gives all up with the machine, which may end while code is replaced. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const all = new Set([...this.#kept, ...this.#old]);
    this.#kept = [];
    this.#old = [];
    await inTurn([...all].map((kept) => () => release(kept)));
  }

  async #open<E extends Opened>(sort: KeptEnd["sort"], what: unknown, open: () => Promise<E>): Promise<E> {
    const key = JSON.stringify([sort, what]);
    const known = this.#old.find(
      (kept) => kept.key === key && kept.end !== undefined && !this.#kept.includes(kept),
    );
    if (known !== undefined) {
      this.#kept.push(known);
      return known.wired.shown as E;
    }
    const opening = this.#openNew(key, sort, open);
    this.#opening.add(opening);
    return await opening.finally(() => this.#opening.delete(opening));
  }

  async #openNew<E extends Opened>(key: string, sort: KeptEnd["sort"], open: () => Promise<E>): Promise<E> {
    const end = await open().catch(async (error: unknown) => {
      if (!(await this.#makeWay(sort, error))) throw error;
      return await open();
    });
    if (this.#isClosed) {
      await end.close?.();
      throw new NorthbridgeError("NB_HOST", "the machine has ended");
    }
    const wired = new WiredEnd<Opened>(end);
    this.#kept.push({ key, sort, open, end, wired });
    return wired.shown as E;
  }

  /**
   * The host refuses: an image is one disk's at a time, a port one listener's, and the old code may have it. Gives up what
   * of that sort the new code has not asked for. False where there is nothing.
   */
  async #makeWay(sort: KeptEnd["sort"], error: unknown): Promise<boolean> {
    if (!(error instanceof NorthbridgeError) || error.code !== "NB_HOST") return false;
    // Those too that make way already, for another end that is opened at once.
    const inTheWay = this.#old.filter((kept) => kept.sort === sort && !this.#kept.includes(kept));
    for (const kept of inTheWay) await release(kept);
    return inTheWay.length > 0;
  }
}

async function release(kept: KeptEnd): Promise<void> {
  const { end } = kept;
  kept.end = undefined;
  if (end !== undefined) kept.closed = Promise.resolve(end.close?.());
  await kept.closed;
}
