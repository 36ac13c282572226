import { toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import type { ConfigSchema, HostEndKind, HostEndSlots, HostEndSort } from "../contracts/index.ts";
import { type PluginRegistry, shortName } from "../composition/plugin-registry.ts";
import { MachineSchema } from "./machine-schema.ts";

type JsonObject = Readonly<Record<string, unknown>>;

const SORTS: Readonly<Record<HostEndSort, null>> = {
  block: null,
  char: null,
  net: null,
  directory: null,
  vsock: null,
};

/** JSON Schema (draft 2020-12) of a machine config whose devices and host ends are those of `registry`. */
export function machineJsonSchema(registry: PluginRegistry): JsonObject {
  const machine = toJsonSchema(MachineSchema, { errorMode: "ignore" }) as JsonObject;
  const properties = machine["properties"] as JsonObject;
  const devices = registry.plugins.map((spec) => deviceSchema(registry, spec));
  return {
    ...machine,
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Northbridge machine",
    properties: {
      ...properties,
      machine: {
        ...(properties["machine"] as JsonObject),
        enum: registry.machineTypes.map((type) => type.name),
      },
      devices: { type: "array", ...(devices.length > 0 && { items: { anyOf: devices } }) },
    },
    $defs: Object.fromEntries(
      Object.keys(SORTS).map((sort) => {
        const kinds = registry.hostEnds.of(sort as HostEndSort).map(hostEndSchema);
        return [sort, kinds.length > 0 ? { anyOf: kinds } : { not: {} }];
      }),
    ),
  };
}

function deviceSchema(registry: PluginRegistry, spec: PluginRegistry["plugins"][number]): JsonObject {
  const short = shortName(spec.name);
  const names = registry.isUniqueShortName(short) ? [short, spec.name] : [spec.name];
  const own = optionsSchema(spec.config, spec.ends);
  return {
    ...own,
    title: spec.name,
    properties: {
      plugin: { enum: names },
      id: { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
      ...own.properties,
    },
    required: ["plugin", ...own.required],
  };
}

function hostEndSchema({ kind, options, ends }: HostEndKind): JsonObject {
  const own = optionsSchema(options, ends);
  return {
    ...own,
    title: kind,
    properties: { kind: { const: kind }, ...own.properties },
    required: ["kind", ...own.required],
  };
}

/** A schema of options; another library's is any mapping. */
function optionsSchema(
  schema: ConfigSchema<unknown, unknown>,
  slots: HostEndSlots = {},
): JsonObject & { readonly properties: JsonObject; readonly required: readonly string[] } {
  const isValibot = schema["~standard"].vendor === "valibot";
  const own = isValibot
    ? (toJsonSchema(schema as unknown as v.GenericSchema, { errorMode: "ignore" }) as JsonObject)
    : { type: "object" };
  const { $schema: _dialect, ...rest } = own;
  const withEnds = Object.entries(slots).reduce(
    (schema, [path, sort]) => withReference(schema, path.split("."), `#/$defs/${sort}`),
    rest,
  );
  return {
    ...withEnds,
    properties: (withEnds["properties"] as JsonObject | undefined) ?? {},
    required: (own["required"] as readonly string[] | undefined) ?? [],
  };
}

/** The schema with a reference at a path of options; `*` stands for the elements of a list. */
function withReference(schema: unknown, path: readonly string[], $ref: string): JsonObject {
  const [step, ...rest] = path;
  const own = (schema ?? {}) as JsonObject;
  if (step === undefined) return { $ref };
  if (step === "*") return { ...own, items: withReference(own["items"], rest, $ref) };
  const properties = own["properties"] as JsonObject | undefined;
  return { ...own, properties: { ...properties, [step]: withReference(properties?.[step], rest, $ref) } };
}
