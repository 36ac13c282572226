/** Methods by which a device gives a host end its functions, or memory: the last call of each counts. */
const WIRING: ReadonlySet<string> = new Set([
  ...["connect", "watchPeer", "watchRoom", "watchLink", "setOffloads"],
  "mapUnder",
]);
/** A vsock back end's `connect` opens a stream. */
const VSOCK_WIRING: ReadonlySet<string> = new Set(["onConnect"]);

type Calls = Map<string, readonly unknown[]>;

/** A host end as a device sees it that may be replaced: it cannot close it, and what it connects can be taken back. */
export class WiredEnd<E extends object> {
  /** For the device. */
  readonly shown: E;
  #end: E;
  readonly #wiring: ReadonlySet<string>;
  #calls: Calls = new Map();
  #before: Calls = new Map();

  constructor(end: E) {
    this.#end = end;
    this.#wiring = "onConnect" in end ? VSOCK_WIRING : WIRING;
    this.shown = new Proxy(end, {
      has: (_first, key) => Reflect.has(this.#end, key),
      get: (_first, key) => this.#get(key),
    });
  }

  /** Puts another end, opened like the one before, in its place; `takeBack` connects it. */
  replace(end: E): void {
    this.#end = end;
    this.#calls = new Map();
  }

  /** What is connected now is what `takeBack` goes back to. */
  remember(): void {
    this.#before = new Map(this.#calls);
  }

  /** Connects again what was connected at `remember`, where somebody else has taken its place. */
  takeBack(): void {
    for (const [method, args] of this.#before) {
      if (this.#calls.get(method) === args) continue;
      const call = Reflect.get(this.#end, method, this.#end) as (...args: readonly unknown[]) => unknown;
      call.apply(this.#end, [...args]);
    }
    this.#calls = this.#before;
  }

  #get(key: string | symbol): unknown {
    if (key === "close") return () => Promise.resolve();
    const end = this.#end;
    const value: unknown = Reflect.get(end, key, end);
    if (typeof value !== "function") return value;
    const isWiring = typeof key === "string" && this.#wiring.has(key);
    return (...args: unknown[]) => {
      if (isWiring) this.#calls.set(key, args);
      // A device may have kept the method of the end before.
      const now = this.#end;
      return (Reflect.get(now, key, now) as (...args: unknown[]) => unknown).apply(now, args);
    };
  }
}
