import { NorthbridgeError, type NorthbridgeErrorCode } from "../contracts/index.ts";

/** More about a problem of a config. */
export interface ConfigErrorOptions extends ErrorOptions {
  /** The key that is at fault, where `configPath` is what it is in. */
  readonly key?: string;
}

/** Something wrong at a place of the machine's config. The message begins with the place. */
export class ConfigError extends NorthbridgeError {
  /** `devices[2].at`; empty for the config itself. */
  readonly configPath: string;
  /** A key of `configPath` that should not be there. */
  readonly key: string | undefined;

  constructor(
    code: NorthbridgeErrorCode,
    configPath: string,
    problem: string,
    { key, ...options }: ConfigErrorOptions = {},
  ) {
    super(code, configPath === "" ? problem : `${configPath}: ${problem}`, options);
    this.configPath = configPath;
    this.key = key;
  }
}

/** Several problems found at once. The message is the first one's. */
export class ConfigErrors extends NorthbridgeError {
  /** At least two. */
  readonly errors: readonly NorthbridgeError[];

  constructor(errors: readonly [NorthbridgeError, ...NorthbridgeError[]]) {
    super(errors[0].code, errors[0].message, { cause: errors[0] });
    this.errors = errors;
  }
}

/** One error for all of them: the only one itself. */
export function errorOf(errors: readonly NorthbridgeError[]): NorthbridgeError | undefined {
  const [first, ...others] = errors;
  return first === undefined || others.length === 0 ? first : new ConfigErrors([first, ...others]);
}

/** Collects the problems of checks that do not depend on each other. */
export class ConfigProblems {
  readonly #found: NorthbridgeError[] = [];

  get isEmpty(): boolean {
    return this.#found.length === 0;
  }

  /** What the check gives; undefined where it found problems. What is no problem of a config is thrown. */
  async check<T>(run: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await run();
    } catch (error) {
      this.note(error);
      return undefined;
    }
  }

  /** Keeps a problem; what is none is thrown. */
  note(error: unknown): void {
    if (error instanceof ConfigErrors) this.#found.push(...error.errors);
    else if (error instanceof ConfigError) this.#found.push(error);
    else throw error;
  }

  /** Throws what was found, if anything. */
  settle(): void {
    const error = errorOf(this.#found);
    if (error !== undefined) throw error;
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
