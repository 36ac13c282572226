import { createSocket } from "node:dgram";
import { once } from "node:events";

/** A name server on a free port of this host that answers every A question with one address (RFC 1035 §4.1). */
export async function stubResolver(
  address: readonly [number, number, number, number],
  port = 0,
): Promise<AsyncDisposable & { readonly port: number }> {
  const socket = createSocket("udp4");
  socket.on("message", (query, from) => {
    const isA = query[query.length - 3] === 1;
    const header = Buffer.from(query);
    header.writeUInt16BE(0x8180, 2);
    header.writeUInt16BE(isA ? 1 : 0, 6);
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address]);
    socket.send(isA ? Buffer.concat([header, record]) : header, from.port, from.address);
  });
  socket.bind(port, "127.0.0.1");
  await once(socket, "listening");
  let isGone = false;
  return {
    port: socket.address().port,
    async [Symbol.asyncDispose]() {
      if (isGone) return;
      isGone = true;
      socket.close();
      await once(socket, "close");
    },
  };
}
