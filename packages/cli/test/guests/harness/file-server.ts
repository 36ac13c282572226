import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

export interface FileServer extends AsyncDisposable {
  readonly port: number;
  /** SHA-256 of what it serves, in hex. */
  readonly sha256: string;
}

/** An HTTP server of this host that serves `length` bytes without a pattern at every path. */
export async function fileServer(length: number, host = "127.0.0.1"): Promise<FileServer> {
  const bytes = new Uint32Array(length / 4);
  let state = 0x9e37_79b9;
  for (let index = 0; index < bytes.length; index += 1) {
    // xorshift32 (Marsaglia 2003).
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state;
  }
  const body = Buffer.from(bytes.buffer);
  const server = createServer((_request, response) => {
    response.writeHead(200, { "content-length": length }).end(body);
  });
  server.listen(0, host);
  await once(server, "listening");
  const bound = server.address();
  return {
    port: bound !== null && typeof bound === "object" ? bound.port : 0,
    sha256: createHash("sha256").update(body).digest("hex"),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
