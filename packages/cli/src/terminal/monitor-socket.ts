import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { Monitor } from "./monitor.ts";

/** Serves `monitor` at a Unix socket until what is returned is called. Throws `NB_HOST`. */
export async function serveMonitor(path: string, monitor: Monitor): Promise<() => void> {
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    client.on("error", () => undefined);
    client.on("close", () => clients.delete(client));
    const lines = createInterface({ input: client });
    let previous = Promise.resolve();
    lines.on("line", (line) => {
      previous = previous.then(async () => {
        const answer = await monitor.execute(line);
        if (!client.destroyed) client.write(`${answer}\n`);
      });
    });
  });
  server.listen(path);
  try {
    await once(server, "listening");
  } catch (error) {
    throw new NorthbridgeError(
      "NB_HOST",
      `${path}: cannot listen for the monitor: ${(error as Error).message}`,
      { cause: error },
    );
  }
  return () => {
    server.close();
    for (const client of clients) client.end();
  };
}
