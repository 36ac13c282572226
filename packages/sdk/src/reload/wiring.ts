/** Methods by which a device gives a host end its functions: the last call of each counts. */
const WIRING: ReadonlySet<string> = new Set(["connect", "watchPeer", "watchLink", "setOffloads"]);
/** A vsock back end's `connect` opens a stream. */
const VSOCK_WIRING: ReadonlySet<string> = new Set(["onConnect"]);

type Calls = Map<string, readonly unknown[]>;

/** A host end as a device sees it that may be replaced: it cannot close it, and what it connects can be taken back. */
export class WiredEnd<E extends object> {
  /** For the device. */
  readonly shown: E;
  readonly #end: E;
  #calls: Calls = new Map();
  #before: Calls = new Map();

  constructor(end: E) {
    this.#end = end;
    const wiring = "onConnect" in end ? VSOCK_WIRING : WIRING;
    this.shown = new Proxy(end, {
      get: (target, key): unknown => {
        if (key === "close") return () => Promise.resolve();
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        const method = (value as (...args: unknown[]) => unknown).bind(target);
        if (typeof key !== "string" || !wiring.has(key)) return method;
        return (...args: unknown[]) => {
          this.#calls.set(key, args);
          return method(...args);
        };
      },
    });
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
}
