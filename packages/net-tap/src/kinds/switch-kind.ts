import { type HostEndKind, type HostEndOptions, type NetBackend, logLine } from "@northbridge/sdk";
import * as v from "valibot";
import { socketAddress, type StreamOptions } from "../socket/stream.ts";
import { EthernetSwitch, type SwitchOptions } from "../switch/ethernet-switch.ts";
import { serveSwitch } from "../switch/served-switch.ts";
import { type CommonNetConfig, defineNetKind } from "./define-net-kind.ts";

/** `{ kind: switch, path: lan.sock, uplink: { kind: user } }`. */
export interface SwitchConfig
  extends Pick<StreamOptions, "path" | "host" | "port">,
    Pick<SwitchOptions, "learns" | "mtu"> {
  /** What else is on the switch: a NAT, a tap. */
  readonly uplink?: HostEndOptions | undefined;
}

/**
 * The kind `switch`: a port of a switch that this process keeps and others join at a socket: with the kind `stream`, or
 * from QEMU with `-netdev stream`.
 */
export const switchKind: HostEndKind<"net", SwitchConfig & CommonNetConfig> = defineNetKind({
  kind: "switch",
  options: {
    path: v.optional(v.string("expected a path")),
    host: v.optional(v.string("expected an address")),
    port: v.optional(v.number("expected a port number")),
    learns: v.optional(v.boolean("expected true or false")),
    mtu: v.optional(v.number("expected a number")),
    uplink: v.optional(v.looseObject({ kind: v.string() })),
  },
  ends: { uplink: "net" },
  check: (options) => {
    socketAddress(options, 0);
  },
  async open({ path, host, port, learns, mtu, uplink }, context, scheduler) {
    const { ends } = context;
    const onLoop = (address: string): void => {
      const remedy = "end one of two connections that lead to the same place";
      logLine(
        context.log,
        context.device,
        `a forwarding loop: frames of ${address} go round; a port is cut off: ${remedy}`,
      );
    };
    const fabric = new EthernetSwitch({ learns, mtu, onLoop, scheduler });
    const served = await serveSwitch(fabric, { path, host, port });
    let up: NetBackend | undefined;
    try {
      up = uplink && (await ends.net(uplink));
    } catch (error) {
      await served.close();
      throw error;
    }
    if (up !== undefined) fabric.uplink(up);
    const own = fabric.port();
    const backend: NetBackend = {
      mtu: own.mtu,
      send: (frame) => own.send(frame),
      connect: (receive, onWritable) => {
        own.connect(receive, onWritable);
      },
      resume: () => {
        own.resume();
      },
      close: async () => {
        await own.close();
        await served.close();
        await up?.close();
      },
    };
    return { backend, stats: () => fabric.stats };
  },
  tryOpen: async ({ uplink }, { ends }) => uplink && (await ends.net(uplink)),
});
