import { NorthbridgeError, type NorthbridgeErrorCode } from "../contracts/index.ts";

/** Something wrong at a place of the machine's config. The message begins with the place. */
export class ConfigError extends NorthbridgeError {
  /** `devices[2].at`; empty for the config itself. */
  readonly configPath: string;

  constructor(code: NorthbridgeErrorCode, configPath: string, problem: string, options?: ErrorOptions) {
    super(code, configPath === "" ? problem : `${configPath}: ${problem}`, options);
    this.configPath = configPath;
  }
}

/** What a value is called in a message: `"text"`, `12`, `a list`, `a mapping`, `nothing`. */
export function describeValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a date";
  if (typeof value === "object" && value !== null) return "a mapping";
  if (typeof value === "function") return "a function";
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "number" || typeof value === "boolean") return value.toString();
  return value === null ? "null" : `a ${typeof value}`;
}
