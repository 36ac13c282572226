import type { HostEndKind } from "@northbridge/sdk";
import * as v from "valibot";
import { tap } from "../tap/tap-net.ts";
import { checkTapOptions, type TapOptions } from "../tap/tap-options.ts";
import { type CommonNetConfig, defineNetKind } from "./define-net-kind.ts";

const number = v.optional(v.number("expected a number"));
const text = v.optional(v.string("expected text"));
const flag = v.optional(v.boolean("expected true or false"));

/** The kind `tap`: an interface of the host. */
export const tapKind: HostEndKind<"net", TapOptions & CommonNetConfig> = defineNetKind({
  kind: "tap",
  options: {
    name: text,
    namespace: text,
    fds: v.optional(v.array(v.number("expected a descriptor"))),
    queues: number,
    bridge: text,
    mtu: number,
    persistent: flag,
    up: flag,
  },
  check: checkTapOptions,
  open: (options) => Promise.resolve().then(() => ({ backend: tap(options) })),
});
