import type { HostEndSlots, HostEndSort } from "../contracts/index.ts";

/** An option that a config has and that is a host end. */
export interface FilledSlot {
  /** Its path inside the options: `disk`, `ports[0].to`. */
  readonly path: string;
  readonly sort: HostEndSort;
  readonly end: unknown;
}

/** The host ends that options hold. Options that are not there are not among them. */
export function filledSlots(slots: HostEndSlots | undefined, options: unknown): FilledSlot[] {
  return Object.entries(slots ?? {}).flatMap(([path, sort]) =>
    follow(path.split("."), options, "").map(([at, end]) => ({ path: at, sort, end })),
  );
}

function follow(path: readonly string[], value: unknown, at: string): [string, unknown][] {
  const [step, ...rest] = path;
  if (step === undefined) return value === undefined ? [] : [[at, value]];
  if (typeof value !== "object" || value === null) return [];
  if (step === "*") {
    return Object.entries(value).flatMap(([index, each]) => follow(rest, each, `${at}[${index}]`));
  }
  const next = (value as Readonly<Record<string, unknown>>)[step];
  return follow(rest, next, at === "" ? step : `${at}.${step}`);
}
