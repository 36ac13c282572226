import { type Duplex, duplexPair } from "node:stream";
import { type DnsForwarder, DnsFramer, withLength } from "./dns-forwarder.ts";

/** Queries of one connection that wait for their answers. */
const MOST_PENDING = 16;

/** DNS over TCP (RFC 7766) as a stream: what a guest's connection to the name server is joined to. */
export function dnsStream(forwarder: DnsForwarder): Duplex {
  const [outside, inside] = duplexPair();
  let pending = 0;
  let hasEnded = false;
  const framer = new DnsFramer((message) => {
    if (pending >= MOST_PENDING) {
      inside.destroy();
      return;
    }
    pending += 1;
    const isQuery = forwarder.query(message, "tcp", (answer) => {
      pending -= 1;
      if (inside.destroyed) return;
      inside.write(withLength(answer));
      if (hasEnded && pending === 0) inside.end();
    });
    if (!isQuery) inside.destroy();
  });
  inside.on("data", (chunk: Uint8Array) => {
    framer.push(chunk);
  });
  inside.on("end", () => {
    hasEnded = true;
    if (pending === 0) inside.end();
  });
  inside.on("error", () => {
    /* The other end is gone, and says so. */
  });
  return outside;
}
