// Devices know no host, and their tests are compiled with them.
const { process, console } = globalThis as {
  process?: { readonly env: Readonly<Record<string, string | undefined>> };
  console?: { log(text: string): void };
};
const wanted = process?.env["NORTHBRIDGE_HOSTILE_RUNS"];

/** Runs of each property. More than CI has time for: `NORTHBRIDGE_HOSTILE_RUNS=100000 NORTHBRIDGE_SEED=random`. */
export const RUNS: number = Number(wanted ?? 40);
export const TIMEOUT_MS = 3_600_000;

/** Says how far a campaign went, where one was asked for. */
export function tell(text: string): void {
  if (wanted !== undefined) console?.log(text);
}
