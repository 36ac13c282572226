import { networkInterfaces } from "node:os";
import { HostRoutes } from "@northbridge/linux";
import { put32 } from "../wire/bytes.ts";
import { type Ip, ipFrom, writeIpv6 } from "../wire/ip.ts";

/** How long the list of interfaces is believed where the kernel cannot be asked. */
const LISTED_MS = 1000;

/** Which addresses are this host's own: those that its kernel would keep, on Linux; else those of its interfaces. */
export class HostAddresses {
  readonly #nowMs: () => number;
  readonly #v4 = new Uint8Array(4);
  readonly #v6 = new Uint8Array(16);
  #routes: HostRoutes | undefined;
  #listed: ReadonlySet<Ip> = new Set();
  #listedUntilMs = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    try {
      this.#routes = new HostRoutes();
    } catch {
      // Another system, or one that keeps this from us.
    }
  }

  isOwn(address: Ip): boolean {
    if (this.#routes === undefined) return this.#isListed(address);
    try {
      return this.#routes.isLocal(this.#bytesOf(address));
    } catch {
      return this.#isListed(address);
    }
  }

  close(): void {
    this.#routes?.close();
    this.#routes = undefined;
  }

  #bytesOf(address: Ip): Uint8Array {
    if (typeof address === "string") {
      writeIpv6(this.#v6, 0, address);
      return this.#v6;
    }
    put32(this.#v4, 0, address);
    return this.#v4;
  }

  #isListed(address: Ip): boolean {
    const now = this.#nowMs();
    if (now >= this.#listedUntilMs) {
      this.#listedUntilMs = now + LISTED_MS;
      const all = Object.values(networkInterfaces()).flatMap((one) => one ?? []);
      this.#listed = new Set(all.flatMap((one) => ipFrom(one.address) ?? []));
    }
    return this.#listed.has(address);
  }
}
