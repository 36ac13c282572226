import { type HostEndKind, logLine } from "@northbridge/sdk";
import * as v from "valibot";
import type { UserNetOptions } from "../user/options.ts";
import { checkUserOptions } from "../user/check-options.ts";
import { user } from "../user/user-net.ts";
import { type CommonNetConfig, defineNetKind } from "./define-net-kind.ts";

/** `{ kind: user, … }`: the options of `user()` that are data. */
export type UserNetConfig = Omit<UserNetOptions, "allow" | "scheduler" | "warn">;

const protocol = v.optional(v.picklist(["tcp", "udp"], "expected tcp or udp"));
const port = v.pipe(
  v.number("expected a port number"),
  v.integer("expected a port number"),
  v.minValue(0, "expected a port number"),
  v.maxValue(65_535, "expected a port up to 65535"),
);
const text = v.string("expected text");
const socketPath = v.optional(v.pipe(v.string("expected a path"), v.nonEmpty("expected a path")));

const options = {
  subnet: v.optional(text),
  subnet6: v.optional(v.union([text, v.literal(false)], "expected a network such as fd00:1::/64, or false")),
  gatewayMac: v.optional(text),
  mtu: v.optional(v.number("expected a number")),
  hostname: v.optional(text),
  domain: v.optional(text),
  leases: v.optional(v.record(text, text)),
  dns: v.optional(
    v.strictObject({
      records: v.optional(v.record(text, v.array(text))),
      servers: v.optional(v.array(text)),
    }),
  ),
  hostPorts: v.optional(
    v.array(
      v.strictObject({
        protocol,
        guestPort: port,
        hostPort: v.optional(port),
        host: v.optional(text),
        path: socketPath,
      }),
    ),
  ),
  forwards: v.optional(
    v.array(
      v.strictObject({
        protocol,
        hostPort: v.optional(port),
        hostAddress: v.optional(text),
        path: socketPath,
        guestPort: port,
        guestAddress: v.optional(text),
      }),
    ),
  ),
  policy: v.optional(
    v.array(
      v.strictObject({
        action: v.picklist(["allow", "deny"], "expected allow or deny"),
        to: v.optional(text),
        protocol,
        ports: v.optional(v.array(port)),
      }),
    ),
  ),
  mostConnections: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
};

/** The kind `user`: a NAT network in this process. */
export const userKind: HostEndKind<"net", UserNetConfig & CommonNetConfig> = defineNetKind({
  kind: "user",
  options,
  check: checkUserOptions,
  async open(own, context, scheduler) {
    const warn = (line: string): void => {
      logLine(context.log, context.device, line);
    };
    const backend = await user({ ...own, warn, scheduler });
    return { backend, stats: () => ({ ...backend.stats }) };
  },
});
