import type { HostEndKind } from "@northbridge/sdk";
import * as v from "valibot";
import { checkDgramOptions, dgram, type DgramOptions } from "../socket/dgram.ts";
import { socketAddress, stream, type StreamOptions } from "../socket/stream.ts";
import { type CommonNetConfig, defineNetKind } from "./define-net-kind.ts";

const number = v.optional(v.number("expected a number"));
const text = v.string("expected text");

/** The kind `stream`: one peer over a stream socket. */
export const streamKind: HostEndKind<"net", StreamOptions & CommonNetConfig> = defineNetKind({
  kind: "stream",
  options: {
    path: v.optional(text),
    host: v.optional(text),
    port: number,
    listen: v.optional(v.boolean("expected true or false")),
    reconnectMs: number,
    mtu: number,
  },
  check: (options) => {
    socketAddress(options, options.listen === true ? 0 : 1);
  },
  async open(options) {
    const backend = await stream(options);
    return { backend, stats: () => backend.stats };
  },
});

/** The kind `dgram`: one peer over UDP. */
export const dgramKind: HostEndKind<"net", DgramOptions & CommonNetConfig> = defineNetKind({
  kind: "dgram",
  options: { local: text, remote: text, mtu: number },
  check: checkDgramOptions,
  async open(options) {
    const backend = await dgram(options);
    return { backend, stats: () => ({ framesUnsent: backend.framesDropped }) };
  },
});
