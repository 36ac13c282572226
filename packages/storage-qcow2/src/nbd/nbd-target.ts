import { NorthbridgeError } from "@northbridge/sdk";
import { NbdClient } from "./nbd-client.ts";
import type { NbdClientOptions } from "./nbd-dial.ts";

/**
 * Connects to what `nbd:unix:SOCKET` or `nbd:HOST:PORT` names, with `:exportname=NAME` where that is not the default
 * export (QEMU's spelling). `undefined`: it names no server.
 * @throws NorthbridgeError with code `NB_CONFIG` where it is meant to name one and does not
 */
export async function connectNbdTarget(name: string): Promise<NbdClient | undefined> {
  return isNbdTarget(name) ? NbdClient.connect(parseNbdTarget(name)) : undefined;
}

/** True for the name of a server, or what is meant to be one. */
export const isNbdTarget = (name: string): boolean => /^nbds?(\+unix)?:/.test(name);

function parseNbdTarget(name: string): NbdClientOptions {
  const match = /^nbd:(?:unix:([^:]+)|([^:]+):(\d+))(?::exportname=(.*))?$/.exec(name);
  if (match === null) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `expected nbd:unix:SOCKET or nbd:HOST:PORT, and :exportname=NAME behind it, found '${name}'`,
    );
  }
  const [, path, host, port, exportName] = match;
  return {
    ...(path === undefined ? { host: host ?? "localhost", port: Number(port) } : { path }),
    ...(exportName === undefined ? {} : { exportName }),
  };
}
