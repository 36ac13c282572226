import { describe, expect, it } from "vitest";
import { DnsForwarder } from "./dns-forwarder.ts";
import { DnsStream } from "./dns-stream.ts";
import { resolveNetwork } from "./options.ts";

/** A query for the root's address (RFC 1035 §4.1), with its length before it. */
const query = [0, 17, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
const COUNT = 30_000;

describe("queries over one connection", () => {
  it("wait for who asks to read the answers, and all have one", async () => {
    const stream = new DnsStream(new DnsForwarder(resolveNetwork({ dns: { servers: [] } })));
    let taken = false;
    const chunk = Uint8Array.from({ length: COUNT * query.length }, (_, at) => query[at % query.length] ?? 0);
    stream.write(chunk, () => {
      taken = true;
    });
    stream.end();
    await new Promise(setImmediate);
    expect(taken).toBe(false);
    expect(stream.readableLength).toBeLessThan(stream.readableHighWaterMark + 1000);
    let length = 0;
    for await (const answer of stream) length += (answer as Uint8Array).length;
    expect([taken, length]).toEqual([true, COUNT * query.length]);
  });
});
