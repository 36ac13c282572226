import { defineHostEnd, type HostEndKind } from "@northbridge/sdk";
import * as v from "valibot";
import { NbdClient } from "../nbd/nbd-client.ts";

/** `{ kind: nbd, … }` in a config: a Unix socket (`path`), or `host` and `port`. */
export interface NbdEndOptions {
  readonly path?: string | undefined;
  readonly host?: string | undefined;
  /** 10809 by default. */
  readonly port?: number | undefined;
  /** Name of the export; the empty one is the server's default. */
  readonly export?: string | undefined;
  /** How long requests wait for a lost connection to come back. 0 by default: not at all. */
  readonly reconnectSec?: number | undefined;
}

const options: v.GenericSchema<NbdEndOptions> = v.pipe(
  v.strictObject({
    path: v.optional(v.pipe(v.string(), v.nonEmpty())),
    host: v.optional(v.pipe(v.string(), v.nonEmpty())),
    port: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535))),
    export: v.optional(v.string()),
    reconnectSec: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(86400))),
  }),
  v.check(
    ({ path, host, port }) => (path === undefined) !== (host === undefined && port === undefined),
    "expected either path, or host and port",
  ),
);

/** `{ kind: nbd, path: disk.sock }` or `{ kind: nbd, host: server, export: disk }`: a disk of an NBD server. */
export const nbd: HostEndKind<"block", NbdEndOptions, NbdEndOptions> = defineHostEnd({
  kind: "nbd",
  of: "block",
  options,
  open: ({ path, host, port, export: exportName, reconnectSec }, { readOnly }) =>
    NbdClient.connect({
      readOnly,
      reconnectMs: (reconnectSec ?? 0) * 1000,
      ...(path === undefined ? {} : { path }),
      ...(host === undefined ? {} : { host }),
      ...(port === undefined ? {} : { port }),
      ...(exportName === undefined ? {} : { exportName }),
    }),
});
