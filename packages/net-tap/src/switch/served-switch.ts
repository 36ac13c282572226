import type { Server } from "node:net";
import { listenOn, type StreamOptions } from "../socket/stream.ts";
import { StreamLink } from "../socket/stream-link.ts";
import type { EthernetSwitch } from "./ethernet-switch.ts";
import { patch } from "../link/patch.ts";

/** Peers at a time; more are turned away. */
const MOST_PEERS = 64;

/**
 * Gives every peer that connects to a socket a port of a switch: machines of other processes (`stream`), QEMU
 * (`-netdev stream`), passt. Throws `NB_CONFIG` and `NB_HOST`.
 */
export async function serveSwitch(
  fabric: EthernetSwitch,
  options: Pick<StreamOptions, "path" | "host" | "port">,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const links = new Set<StreamLink>();
  const server: Server = await listenOn(options, (socket) => {
    if (links.size >= MOST_PEERS) {
      socket.destroy();
      return;
    }
    const port = fabric.port();
    const link = new StreamLink(fabric.mtu, () => {
      links.delete(link);
      void port.close();
    });
    links.add(link);
    link.attach(socket);
    patch(port, link);
  });
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === "object" ? bound.port : 0,
    async close() {
      await Promise.all([...links].map((link) => link.close()));
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
    },
  };
}
