import { NorthbridgeError } from "@northbridge/sdk";

/** Options of `tap()`. */
export interface TapOptions {
  /** Name of the interface, at most 15 bytes; `%d` numbers it. Made where it is not there. @defaultValue `"nb%d"` */
  readonly name?: string | undefined;
  /** Network namespace that the interface is in: a name of `ip netns`, or a path. Not with `fds`. @defaultValue ours */
  readonly namespace?: string | undefined;
  /** Descriptors of queues that another process opened, instead of a name; in its network namespace, if this one may. */
  readonly fds?: readonly number[] | undefined;
  /** Queues, 1 to 8. @defaultValue 1 */
  readonly queues?: number | undefined;
  /** A bridge that the interface becomes a port of. */
  readonly bridge?: string | undefined;
  /** 68 to 65535. @defaultValue what the interface has */
  readonly mtu?: number | undefined;
  /** Whether the interface stays when the machine goes. @defaultValue false */
  readonly persistent?: boolean | undefined;
  /** Whether to bring the interface up. Not with `fds`. @defaultValue true */
  readonly up?: boolean | undefined;
}

/** Throws `NB_CONFIG` that names the option at fault. */
export function checkTapOptions(options: TapOptions): void {
  const fail = (message: string): never => {
    throw new NorthbridgeError("NB_CONFIG", message);
  };
  const { name, namespace, fds, queues, mtu, bridge } = options;
  for (const [path, value] of [
    ["name", name],
    ["bridge", bridge],
  ] as const) {
    if (value === undefined) continue;
    if (new TextEncoder().encode(value).length > 15)
      fail(`${path}: expected at most 15 bytes, found "${value}"`);
    if (!/^[^\s/:]+$/.test(value) || value === "." || value === "..") {
      fail(`${path}: expected the name of an interface, found "${value}"`);
    }
  }
  if (fds !== undefined && (name !== undefined || queues !== undefined || namespace !== undefined)) {
    fail("fds: the interface is there already: leave out name, queues and namespace");
  }
  if (namespace !== undefined && !/^(\/.+|[^/]+)$/.test(namespace)) {
    fail(`namespace: expected a name of \`ip netns\`, or a path, found "${namespace}"`);
  }
  if (fds?.length === 0) fail("fds: expected at least one descriptor, found none");
  if (queues !== undefined && (!Number.isInteger(queues) || queues < 1 || queues > 8)) {
    fail(`queues: expected a whole number from 1 to 8, found ${queues}`);
  }
  if (mtu !== undefined && (!Number.isInteger(mtu) || mtu < 68 || mtu > 65_535)) {
    fail(`mtu: expected a whole number from 68 to 65535, found ${mtu}`);
  }
}
