import { connect } from "node:net";

/** A request of a client (doc/proto.md: Transmission phase). */
export interface WireRequest {
  readonly command: "write" | "disconnect" | "trim" | "zero";
  readonly offset: number;
  readonly length: number;
  /** Of a write. */
  readonly bytes?: Uint8Array;
}

const COMMANDS = { write: 1, disconnect: 2, trim: 4, zero: 6 } as const;

/** The bytes of a client that picks an export, sends its requests and leaves. */
export function clientBytes(requests: readonly WireRequest[], exportName = ""): Uint8Array {
  const start = Buffer.alloc(4 + 16 + exportName.length);
  start.writeUInt32BE(3, 0);
  start.write("IHAVEOPT", 4);
  start.writeUInt32BE(1, 12);
  start.writeUInt32BE(exportName.length, 16);
  start.write(exportName, 20);
  const parts: Uint8Array[] = [start];
  for (const { command, offset, length, bytes } of [
    ...requests,
    { command: "disconnect", offset: 0, length: 0, bytes: undefined } as const,
  ]) {
    const head = Buffer.alloc(28);
    head.writeUInt32BE(0x25609513, 0);
    head.writeUInt16BE(COMMANDS[command], 6);
    head.writeBigUInt64BE(BigInt(offset), 16);
    head.writeUInt32BE(length, 24);
    parts.push(head);
    if (bytes !== undefined) parts.push(bytes);
  }
  return Buffer.concat(parts);
}

/** Sends bytes and takes what comes until the server hangs up, or does so itself. */
export const talk = (path: string, bytes: Uint8Array, hangsUp: boolean): Promise<void> =>
  new Promise((resolve) => {
    const socket = connect(path, () => (hangsUp ? socket.end(bytes) : socket.write(bytes)));
    socket.on("error", () => undefined);
    socket.resume();
    socket.on("close", () => {
      resolve();
    });
  });
