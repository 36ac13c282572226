import { type HostEndContext, type HostEndKind, type NetBackend, NorthbridgeError } from "@northbridge/sdk";
import * as netTap from "../src/index.ts";

/** The kinds of this package, by name. */
export const kinds: ReadonlyMap<string, HostEndKind<"net">> = new Map(
  Object.values(netTap as Readonly<Record<string, unknown>>)
    .filter(
      (one): one is HostEndKind<"net"> =>
        typeof one === "object" && one !== null && "open" in one && "of" in one,
    )
    .map((one) => [one.kind, one]),
);

/** What a machine gives a kind, with what was logged and counted. */
export function machine(): {
  readonly context: HostEndContext;
  readonly log: () => string;
  readonly stats: () => Readonly<Record<string, number>>;
} {
  const bytes: number[] = [];
  let counters: () => Readonly<Record<string, number>> = () => ({});
  const context: HostEndContext = {
    device: "net0",
    readOnly: false,
    clock: {
      kind: "realtime",
      epochMs: 0,
      nowNs: () => 0,
      createTimer: () => ({ arm: () => undefined, disarm: () => undefined, deadlineNs: undefined }),
    },
    console: { write: () => undefined, connect: () => undefined, resume: () => undefined },
    log: { write: (byte) => bytes.push(byte) },
    ends: {
      block: () => Promise.reject(new Error("no block")),
      char: () => Promise.reject(new Error("no char")),
      directory: () => Promise.reject(new Error("no directory")),
      vsock: () => Promise.reject(new Error("no vsock")),
      net: ({ kind, ...options }) => open(kind, options, context),
    },
    onStats: (give) => (counters = give),
  };
  return { context, log: () => String.fromCharCode(...bytes), stats: () => counters() };
}

/** Opens a back end as a machine does whose config says so. */
export async function open(kind: string, options: unknown, context: HostEndContext): Promise<NetBackend> {
  const found = kinds.get(kind);
  if (found === undefined) throw new Error(`no kind ${kind}`);
  const checked = (await found.options["~standard"].validate(options)) as {
    readonly value?: unknown;
    readonly issues?: readonly {
      readonly message: string;
      readonly path?: readonly { readonly key: string | number }[];
    }[];
  };
  if (checked.issues !== undefined) {
    const lines = checked.issues.map(({ message, path = [] }) => {
      const keys = path.map(({ key }) =>
        typeof key === "number" ? `[${key}]` : /^\w+$/.test(key) ? `.${key}` : `["${key}"]`,
      );
      return `${keys.join("").replace(/^\./, "")}: ${message}`;
    });
    throw new NorthbridgeError("NB_CONFIG", lines.join("\n"));
  }
  return found.open(checked.value, context);
}
