import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { Clients, listenAt } from "@northbridge/core";
import type { Monitor } from "./monitor.ts";

/** Serves `monitor` at a Unix socket until what is returned is called. Throws `NB_HOST`. */
export async function serveMonitor(path: string, monitor: Monitor): Promise<() => Promise<void>> {
  const clients = new Clients();
  // A client that says all and then only listens, as a script does, is answered all.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    clients.keep(client);
    client.on("error", () => undefined);
    const lines = createInterface({ input: client });
    let previous = Promise.resolve();
    lines.on("line", (line) => {
      previous = previous.then(async () => {
        const answer = await monitor.execute(line);
        if (!client.destroyed) client.write(`${answer}\n`);
      });
    });
    lines.on("close", () => {
      void previous.then(() => client.end());
    });
  });
  await listenAt(server, path);
  return () => clients.close(server);
}
