import { NbdClient, type NbdClientOptions } from "./nbd-client.ts";

/**
 * Connects to what `nbd:unix:SOCKET` or `nbd:HOST:PORT` names, with `:exportname=NAME` where that is not the default
 * export (QEMU's spelling). `undefined`: it names no server.
 */
export async function connectNbdTarget(name: string): Promise<NbdClient | undefined> {
  const options = parseNbdTarget(name);
  return options && NbdClient.connect(options);
}

/** True for the name of a server, or what is meant to be one. */
export const isNbdTarget = (name: string): boolean => name.startsWith("nbd:");

function parseNbdTarget(name: string): NbdClientOptions | undefined {
  const match = /^nbd:(?:unix:([^:]+)|([^:]+):(\d+))(?::exportname=(.*))?$/.exec(name);
  if (match === null) return undefined;
  const [, path, host, port, exportName] = match;
  return {
    ...(path === undefined ? { host: host ?? "localhost", port: Number(port) } : { path }),
    ...(exportName === undefined ? {} : { exportName }),
  };
}
