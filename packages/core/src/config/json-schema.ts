import { toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import { type PluginRegistry, shortName } from "../composition/plugin-registry.ts";
import { MachineSchema } from "./machine-schema.ts";

type JsonObject = Readonly<Record<string, unknown>>;

/** JSON Schema (draft 2020-12) of a machine config whose devices are the plugins of `registry`. */
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
  };
}

function deviceSchema(registry: PluginRegistry, spec: PluginRegistry["plugins"][number]): JsonObject {
  const short = shortName(spec.name);
  const names = registry.isUniqueShortName(short) ? [short, spec.name] : [spec.name];
  const isValibot = spec.config["~standard"].vendor === "valibot";
  const own = isValibot
    ? (toJsonSchema(spec.config as unknown as v.GenericSchema, { errorMode: "ignore" }) as JsonObject)
    : { type: "object" };
  const { $schema: _dialect, ...rest } = own;
  return {
    ...rest,
    title: spec.name,
    properties: {
      plugin: { enum: names },
      id: { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
      ...(own["properties"] as JsonObject | undefined),
    },
    required: ["plugin", ...((own["required"] as readonly string[] | undefined) ?? [])],
  };
}
