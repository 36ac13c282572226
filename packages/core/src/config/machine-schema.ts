import * as v from "valibot";
import type { DeviceEntry, DeviceReference, MachineConfig } from "../contracts/index.ts";
import { ConfigError, ConfigProblems, describeValue } from "./config-error.ts";
import { problemOf } from "./issue.ts";

const wholeNumber = (from: number): v.GenericSchema<number> =>
  v.pipe(
    v.number(`expected a whole number from ${from}`),
    v.integer(`expected a whole number from ${from}`),
    v.minValue(from, `expected a whole number from ${from}`),
    v.maxValue(Number.MAX_SAFE_INTEGER, "expected a number below 2^53"),
  );

const text: v.GenericSchema<string> = v.pipe(v.string("expected text"), v.minLength(1, "expected text"));

const Id = v.pipe(
  v.string("expected an id"),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "expected an id of letters, digits, '.', '_' and '-'"),
);

const Flat = v.strictObject({
  image: text,
  gpa: wholeNumber(0),
  entry: v.optional(wholeNumber(0)),
  mode: v.picklist(["real", "protected", "long"]),
});

const Cpu = v.strictObject({
  model: v.optional(text),
  features: v.optional(v.record(v.string(), v.boolean("expected true or false"))),
  tscKhz: v.optional(v.pipe(wholeNumber(1), v.maxValue(0xffff_ffff, "expected less than 4294967296"))),
});

const Boot = v.pipe(
  v.strictObject({
    kernel: v.optional(text),
    initrd: v.optional(text),
    cmdline: v.optional(v.string("expected text")),
    flat: v.optional(Flat),
    protocol: v.optional(v.picklist(["auto", "bzimage", "elf64", "pvh"])),
  }),
  v.check(
    (boot) => boot.kernel === undefined || boot.flat === undefined,
    "expected either kernel or flat, not both",
  ),
);

/** The machine config without what only plugins can check: the entries of `devices`. */
export const MachineSchema: v.GenericSchema = v.strictObject({
  name: v.optional(text),
  machine: v.optional(text),
  backend: v.optional(v.picklist(["auto", "kvm", "soft"])),
  clock: v.optional(v.picklist(["realtime", "virtual"])),
  memory: v.strictObject({ mib: wholeNumber(1) }),
  vcpus: v.optional(wholeNumber(1)),
  cpu: v.optional(Cpu),
  boot: v.optional(Boot),
  onReset: v.optional(v.picklist(["restart", "stop"])),
  devices: v.optional(v.array(v.unknown())),
});

const Reference = v.looseObject({ plugin: text, id: v.optional(Id) });

/** Checks the shape of a config. Throws a `ConfigError`, or `ConfigErrors` where there are several problems. */
export function parseMachineConfig(input: unknown): MachineConfig {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    throw new ConfigError(
      "NB_CONFIG",
      "",
      `expected a mapping that describes a machine, found ${describeValue(input)}`,
    );
  }
  const parsed = v.safeParse(MachineSchema, input);
  const problems = new ConfigProblems();
  if (!parsed.success) problems.note(problemOf(parsed.issues as never, MachineSchema, input, ""));
  const { devices: items, ...machine } = parsed.output as Omit<MachineConfig, "devices"> & {
    readonly devices?: unknown;
  };
  const devices = (Array.isArray(items) ? items : undefined)?.map((item, index) => {
    try {
      return parseDevice(item, `devices[${index}]`);
    } catch (error) {
      problems.note(error);
      return undefined;
    }
  });
  problems.settle();
  return { ...machine, ...(devices && { devices }) };
}

function parseDevice(item: unknown, where: string): DeviceEntry | DeviceReference | undefined {
  if (item === false || item === null || item === undefined || item === "" || item === 0) return undefined;
  if (typeof item === "function" && "pluginName" in item) {
    throw new ConfigError(
      "NB_CONFIG",
      where,
      `expected a device, found the plugin ${String(item.pluginName)}: call it, as in plugin({…})`,
    );
  }
  if (typeof item !== "object" || Array.isArray(item)) {
    throw new ConfigError(
      "NB_CONFIG",
      where,
      `expected a device, as in { plugin: serial }, found ${describeValue(item)}`,
    );
  }
  const id = (item as { readonly id?: unknown }).id;
  if ("spec" in item) {
    const checked = v.safeParse(v.optional(Id), id);
    if (!checked.success) throw problemOf(checked.issues as never, Id, id, `${where}.id`);
    return item as DeviceEntry;
  }
  const parsed = v.safeParse(Reference, item);
  if (!parsed.success) throw problemOf(parsed.issues as never, Reference, item, where);
  return parsed.output as DeviceReference;
}
