import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

/** The host's side of a connection: TCP, or what cannot say RST: a Unix socket, or a stream inside this process. */
export type HostStream =
  | { readonly kind: "tcp"; readonly stream: Socket }
  | { readonly kind: "local"; readonly stream: Duplex };

/** Ends the host's side at once, as roughly as it can: `resetAndDestroy` of a Unix socket throws. */
export function resetStream(host: HostStream): void {
  if (host.kind === "tcp") host.stream.resetAndDestroy();
  else host.stream.destroy();
}
