import { NorthbridgeError } from "@northbridge/sdk";
import { parseMac } from "../wire/address.ts";
import type { RateLimit } from "./token-bucket.ts";

/** Seen from the guest: what it receives, and what it sends. */
export type LinkDirection = "toGuest" | "fromGuest";

/** What a person may change of a link, and see. */
export interface LinkControl {
  readonly stats: object;
  setMacs(macs: readonly Uint8Array[] | undefined): void;
  setLimit(direction: LinkDirection, limit: RateLimit | undefined): void;
}

/**
 * Carries out a line of the monitor: `stats`; `limit toGuest|fromGuest off`, or with `bytesPerSecond N` and
 * `framesPerSecond N`; `macs any`, or the addresses that the guest may have. Throws `NB_CONFIG`.
 */
export function runLinkCommand(words: readonly string[], link: LinkControl): string {
  const [command, ...args] = words;
  switch (command) {
    case "stats":
      return JSON.stringify(link.stats);
    case "limit": {
      const [direction, ...rates] = args;
      if (direction !== "toGuest" && direction !== "fromGuest") {
        throw expected("limit toGuest or limit fromGuest", direction);
      }
      return limit(link, direction, rates);
    }
    case "macs":
      link.setMacs(
        args[0] === "any" ? undefined : args.map((text, index) => parseMac(text, `macs[${index}]`)),
      );
      return `macs ${args.join(" ") || "none"}`;
    default:
      throw expected("link up, link down, announce, stats, limit or macs", words.join(" "));
  }
}

function limit(link: LinkControl, direction: LinkDirection, rates: readonly string[]): string {
  const found = rates.join(" ");
  if (found === "off") {
    link.setLimit(direction, undefined);
    return `limit ${direction} off`;
  }
  const named: { -readonly [Rate in keyof RateLimit]: number } = {};
  for (let at = 0; at < rates.length; at += 2) {
    const [name, value] = [rates[at], Number(rates[at + 1])];
    const isRate = name === "bytesPerSecond" || name === "framesPerSecond";
    if (!isRate || !(value > 0) || value === Infinity)
      throw expected("off, bytesPerSecond N or framesPerSecond N", found);
    named[name] = value;
  }
  if (rates.length === 0) throw expected("off, bytesPerSecond N or framesPerSecond N", found);
  link.setLimit(direction, named);
  return `limit ${direction} ${found}`;
}

const expected = (what: string, found: string | undefined): NorthbridgeError =>
  new NorthbridgeError(
    "NB_CONFIG",
    `expected ${what}, found ${found === undefined || found === "" ? "nothing" : found}`,
  );
