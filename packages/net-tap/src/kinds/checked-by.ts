import { NorthbridgeError } from "@northbridge/sdk";
import * as v from "valibot";

/** `forwards[0].hostPort: reason`, `dns.records["a.test"]: reason`. */
const PROBLEM = /^((?:\w+|\[\d+\]|\["[^"]*"\]|\.)+): (.*)$/s;

/**
 * A schema of options that also refuses what `check` throws: `NB_CONFIG` that begins with the option's path. So a config is
 * refused when it is read, and not only when its machine is made.
 */
export function checkedBy<In, Out extends object>(
  schema: v.GenericSchema<In, Out>,
  check: (options: Out) => void,
): v.GenericSchema<In, Out> {
  return v.pipe(
    schema,
    v.rawCheck<Out>(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      try {
        check(dataset.value);
      } catch (error) {
        if (!(error instanceof NorthbridgeError) || error.code !== "NB_CONFIG") throw error;
        const [, path = "", reason = error.message] = PROBLEM.exec(error.message) ?? [];
        addIssue({ message: reason, ...(path !== "" && { path: itemsOf(path, dataset.value) }) });
      }
    }),
  );
}

type Items = [v.IssuePathItem, ...v.IssuePathItem[]];

function itemsOf(path: string, options: object): Items {
  const keys = [...path.matchAll(/\w+|\["([^"]*)"\]/g)].map(([text, quoted]) => quoted ?? text);
  let input: unknown = options;
  return keys.map((key) => {
    const from = input as Record<string, unknown> | undefined;
    input = from?.[key];
    return Array.isArray(from)
      ? { type: "array", origin: "value", input: from, key: Number(key), value: input }
      : { type: "object", origin: "value", input: from, key, value: input };
  }) as Items;
}
