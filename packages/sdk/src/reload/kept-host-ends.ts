import type {
  BlockBackend,
  CharEnd,
  DirectoryBackend,
  HostEndOptions,
  HostEnds,
  NetBackend,
  VsockBackend,
} from "@northbridge/core/contracts";

type Opened = BlockBackend | CharEnd | NetBackend | VsockBackend;

interface KeptEnd {
  readonly key: string;
  readonly end: Opened;
  readonly shown: Opened;
}

/** Host ends that stay open while the code of their device is replaced: who opens the same again gets the same. */
export class KeptHostEnds implements HostEnds {
  readonly #inner: HostEnds;
  readonly #kept: KeptEnd[] = [];
  #next = 0;

  constructor(inner: HostEnds) {
    this.#inner = inner;
  }

  /** New code opens its ends from here on, in the order of the old. */
  begin(): void {
    this.#next = 0;
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
    if (known?.key === key) return known.shown as E;
    await known?.end.close?.();
    const end = await open();
    const shown = withoutClose(end);
    this.#kept[at] = { key, end, shown };
    return shown;
  }
}

/** The same end, which its device cannot close: the next one goes on with it. */
function withoutClose<E extends Opened>(end: E): E {
  return new Proxy(end, {
    get: (target, key): unknown => {
      if (key === "close") return () => Promise.resolve();
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}
