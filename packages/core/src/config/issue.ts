import type { ConfigSchema, NorthbridgeError } from "../contracts/index.ts";
import { didYouMean, nearest } from "../composition/did-you-mean.ts";
import { ConfigError, describeValue, errorOf } from "./config-error.ts";

/** An issue of a Standard Schema validator; valibot's carry more, and that is used where present. */
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
  readonly type?: string;
  readonly expected?: string | null;
  readonly received?: string;
}

interface StandardResult {
  readonly value?: unknown;
  readonly issues?: readonly SchemaIssue[] | undefined;
}

/**
 * What a Standard Schema makes of `input`. Throws a `ConfigError`, or `ConfigErrors`, each one line that says where,
 * what was expected and what was found.
 * @param where config path of `input`
 */
export async function parseWith(
  schema: ConfigSchema<unknown, unknown>,
  input: unknown,
  where: string,
): Promise<unknown> {
  const result = (await schema["~standard"].validate(input)) as StandardResult;
  if (result.issues === undefined) return result.value;
  throw problemOf(result.issues, schema, input, where);
}

/** All issues as one error, misspelt keys first, without those of the keys that they leave missing. */
export function problemOf(
  issues: readonly SchemaIssue[],
  schema: unknown,
  input: unknown,
  where: string,
): NorthbridgeError {
  const known = (issue: SchemaIssue): readonly string[] => knownKeys(schema, keysOf(issue).slice(0, -1));
  const misspelt = issues.filter(isUnknownKey);
  const meant = new Set(
    misspelt.map((issue) => {
      const keys = keysOf(issue);
      return formatPath(where, [...keys.slice(0, -1), nearest(String(keys.at(-1)), known(issue)) ?? ""]);
    }),
  );
  const others = issues.filter(
    (issue) => !isUnknownKey(issue) && !meant.has(formatPath(where, keysOf(issue))),
  );
  const errors = [...misspelt, ...others].map((issue) => {
    const keys = keysOf(issue);
    const problem = describeIssue(issue, schema, input);
    return isUnknownKey(issue)
      ? new ConfigError("NB_CONFIG", formatPath(where, keys.slice(0, -1)), problem, {
          key: String(keys.at(-1)),
        })
      : new ConfigError("NB_CONFIG", formatPath(where, keys), problem);
  });
  // A value may be at fault in two ways that are one to who wrote it.
  const unlike = errors.filter(
    ({ message }, at) => errors.findIndex((each) => each.message === message) === at,
  );
  return errorOf(unlike) ?? new ConfigError("NB_CONFIG", where, "not valid");
}

const isUnknownKey = (issue: SchemaIssue): boolean =>
  issue.type === "strict_object" && issue.expected === "never";

/** Keys from the root of what was checked to what is wrong. */
const keysOf = (issue: SchemaIssue): readonly PropertyKey[] =>
  (issue.path ?? []).map((item) => (typeof item === "object" ? item.key : item));

/** `devices[2].at`. */
function formatPath(where: string, keys: readonly PropertyKey[]): string {
  let path = where;
  for (const key of keys) {
    if (typeof key === "number") path += `[${key}]`;
    else path += path === "" ? String(key) : `.${String(key)}`;
  }
  return path;
}

/** What was expected and what was found. */
function describeIssue(issue: SchemaIssue, schema: unknown, input: unknown): string {
  const keys = keysOf(issue);
  if (isUnknownKey(issue)) {
    const key = String(keys.at(-1));
    const known = knownKeys(schema, keys.slice(0, -1));
    const hint = didYouMean(key, known) || (known.length > 0 ? `; there are ${known.join(", ")}` : "");
    return `unknown key "${key}"${hint}`;
  }
  const found = describeValue(valueAt(input, keys));
  // Messages of our own schemas are phrases that say what is expected.
  if (issue.message.startsWith("expected "))
    return issue.message.includes(", found ") ? issue.message : `${issue.message}, found ${found}`;
  const expected = found === "nothing" ? schemasAt([schema], keys)[0]?.expects : issue.expected;
  return expected ? `expected ${inWords(expected)}, found ${found}` : issue.message;
}

/** `Object` and `(Object | false)` as valibot writes them, in the words of a config file. */
const inWords = (expected: string): string =>
  expected
    .replace(/^\((.*)\)$/, "$1")
    .replaceAll("Object", "a mapping")
    .replaceAll("Array", "a list")
    .replaceAll(" | ", " or ")
    .replace(/^(string|number|boolean)$/, "a $1");

function valueAt(input: unknown, keys: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of keys) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Readonly<Record<PropertyKey, unknown>>)[key];
  }
  return value;
}

interface SchemaShape {
  readonly expects?: string;
  readonly entries?: Readonly<Record<string, unknown>>;
  readonly wrapped?: unknown;
  readonly item?: unknown;
  readonly options?: readonly unknown[];
}

/** Keys a valibot object schema knows at `path`; none where the schema is another library's. */
function knownKeys(schema: unknown, path: readonly PropertyKey[]): readonly string[] {
  return [...new Set(schemasAt([schema], path).flatMap((shape) => Object.keys(shape.entries ?? {})))];
}

function schemasAt(schemas: readonly unknown[], path: readonly PropertyKey[]): readonly SchemaShape[] {
  let shapes = schemas.flatMap(unwrap);
  for (const key of path) {
    shapes = shapes
      .flatMap((shape) => (typeof key === "number" ? [shape.item] : [shape.entries?.[String(key)]]))
      .filter((inner) => inner !== undefined)
      .flatMap(unwrap);
  }
  return shapes;
}

/** Looks through `optional` and unions. A picklist's options are strings, not schemas. */
function unwrap(schema: unknown): readonly SchemaShape[] {
  if (typeof schema !== "object" || schema === null) return [];
  const shape = schema as SchemaShape;
  if (shape.wrapped !== undefined) return unwrap(shape.wrapped);
  if (shape.options?.every((option) => typeof option === "object")) return shape.options.flatMap(unwrap);
  return [shape];
}
