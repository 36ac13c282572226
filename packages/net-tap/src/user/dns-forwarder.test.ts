import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { DnsForwarder, DnsFramer, withLength } from "./dns-forwarder.ts";
import { type NameServer, resolveNetwork } from "./options.ts";

/** A query for A of "a" (RFC 1035 §4.1). */
const query = Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1);

/** Answers without records over TCP, and drops whoever ends before the answer, as some servers do. */
function answerTo(socket: Socket): void {
  const framer = new DnsFramer();
  socket.on("error", () => undefined);
  socket.on("end", () => socket.destroy());
  socket.on("data", (chunk) => {
    framer.push(chunk);
    const asked = framer.next();
    if (asked === undefined) return;
    const answer = asked.slice();
    answer.set([0x81, 0x80], 2);
    // A look at the next events finds an end that is there already.
    setImmediate(() => setImmediate(() => socket.destroyed || socket.write(withLength(answer))));
  });
}

describe("a resolver", () => {
  it("is known by its address as the host writes it, for answers are told by that", () => {
    const servers = ["[0:0:0:0:0:0:0:1]:5353", "2001:DB8::0:1"];
    expect(resolveNetwork({ dns: { servers } }).nameServers()).toEqual([
      { address: "::1", port: 5353 },
      { address: "2001:db8::1", port: 53 },
    ]);
  });
});

describe("the resolvers of the host", () => {
  it("are looked up again once none has answered, and asked over a connection that stays open", async () => {
    await using server = createServer({ allowHalfOpen: true }, answerTo);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const bound = server.address();
    const port = bound !== null && typeof bound === "object" ? bound.port : 0;
    let current: readonly NameServer[] = [];
    const warnings: string[] = [];
    const warn = (line: string): number => warnings.push(line);
    const dns = new DnsForwarder({ ...resolveNetwork({ warn }), nameServers: () => current });
    try {
      current = [{ address: "127.0.0.1", port }];
      const code = (): Promise<number> =>
        new Promise((resolve) => {
          dns.query(query, "tcp", (answer) => {
            resolve((answer[3] ?? 0) & 15);
          });
        });
      expect([await code(), await code()]).toEqual([2, 0]);
      expect(warnings).toHaveLength(1);
    } finally {
      dns.close();
    }
  });
});
