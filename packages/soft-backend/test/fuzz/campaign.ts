import { randomInt } from "node:crypto";

/**
 * Calls `round` with a fresh seed: once, or again and again for NORTHBRIDGE_FUZZ_SECONDS. NORTHBRIDGE_FUZZ_SEED gives
 * the first seed, to repeat a failure.
 */
export function campaign(round: (seed: number) => void): void {
  const seconds = Number(process.env["NORTHBRIDGE_FUZZ_SECONDS"] ?? "0");
  const first = process.env["NORTHBRIDGE_FUZZ_SEED"];
  const until = performance.now() + seconds * 1000;
  round(first === undefined ? randomInt(2 ** 31) : Number(first));
  while (performance.now() < until) round(randomInt(2 ** 31));
}
