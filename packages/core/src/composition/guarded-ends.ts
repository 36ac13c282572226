import type { CharEnd, HostEnds, HostStreamListener, NetBackend, VsockBackend } from "../contracts/index.ts";

/** Makes a callback of the device's one that never throws: what it throws, at once or later, ends the machine. */
export type Guard = <A extends readonly unknown[], R>(
  what: string,
  callback: (...args: A) => R,
  instead: R,
) => (...args: A) => R;

/** Host ends as a device sees them: what its callbacks throw is the device's fault, never the end's that calls. */
export function guardedEnds(ends: HostEnds, guard: Guard): HostEnds {
  return {
    block: (options, use) => ends.block(options, use),
    char: async (options) => guardedChar(await ends.char(options), guard),
    net: async (options) => guardedNet(await ends.net(options), guard),
    directory: (options, use) => ends.directory(options, use),
    vsock: async (options) => guardedVsock(await ends.vsock(options), guard),
  };
}

export function guardedChar(end: CharEnd, guard: Guard): CharEnd {
  return withMethods(end, {
    connect: (receive) => {
      end.connect(guard("input", receive, 0));
    },
    ...(end.watchPeer !== undefined && {
      watchPeer: (listener: (isPresent: boolean) => void) =>
        end.watchPeer?.(guard("a change of the peer", listener, undefined)),
    }),
  });
}

const guardedNet = (link: NetBackend, guard: Guard): NetBackend =>
  withMethods(link, {
    connect: (receive, onWritable) => {
      link.connect(guard("a frame", receive, false), guard("a link with room", onWritable, undefined));
    },
    ...(link.watchLink !== undefined && {
      watchLink: (listener: (isUp: boolean) => void) =>
        link.watchLink?.(guard("a change of the link", listener, undefined)),
    }),
  });

const guardedVsock = (sockets: VsockBackend, guard: Guard): VsockBackend =>
  withMethods(sockets, {
    connect: (port, listener) => sockets.connect(port, guardedListener(listener, guard)),
    onConnect: (accept) => {
      const guarded = guard("a stream of the host's", accept, undefined);
      sockets.onConnect((port, stream) => {
        const listener = guarded(port, stream);
        return listener && guardedListener(listener, guard);
      });
    },
  });

const guardedListener = (listener: HostStreamListener, guard: Guard): HostStreamListener => ({
  connected: guard(
    "a stream that is connected",
    () => {
      listener.connected();
    },
    undefined,
  ),
  receive: guard("a stream's input", (bytes) => listener.receive(bytes), 0),
  written: guard(
    "a stream's output",
    (count) => {
      listener.written(count);
    },
    undefined,
  ),
  ended: guard(
    "a stream's end",
    () => {
      listener.ended();
    },
    undefined,
  ),
  closed: guard(
    "a stream that is closed",
    () => {
      listener.closed();
    },
    undefined,
  ),
});

/** The same object with other methods in place of some. */
function withMethods<T extends object>(inner: T, methods: Partial<T>): T {
  const outer = {};
  const properties = inner as Readonly<Record<string, unknown>>;
  for (
    let level: object | null = inner;
    level !== null && level !== Object.prototype;
    level = Object.getPrototypeOf(level) as object | null
  ) {
    for (const name of Object.getOwnPropertyNames(level)) {
      if (name === "constructor" || Object.hasOwn(outer, name)) continue;
      const value = properties[name];
      const descriptor =
        typeof value === "function"
          ? { value: value.bind(inner) as unknown }
          : { get: () => properties[name] };
      Object.defineProperty(outer, name, { ...descriptor, enumerable: true, configurable: true });
    }
  }
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(outer, name, { value });
  return outer as T;
}
