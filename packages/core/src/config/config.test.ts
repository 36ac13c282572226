import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PluginRegistry } from "../composition/plugin-registry.ts";
import { debugConsole, powerPort } from "../testing/fake-devices.ts";
import { ConfigError } from "./config-error.ts";
import { loadMachineConfig } from "./config-file.ts";
import { machineJsonSchema } from "./json-schema.ts";
import { parseMachineConfig } from "./machine-schema.ts";

const memory = { mib: 64 };

describe("parseMachineConfig", () => {
  const problem = (input: unknown): string => {
    try {
      parseMachineConfig(input);
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return (error as ConfigError).message;
    }
    return "fine";
  };

  it("takes a whole machine and drops falsy devices", () => {
    const config = {
      name: "full",
      machine: "pc-1",
      backend: "auto",
      clock: "virtual",
      memory,
      vcpus: 2,
      boot: { kernel: "k", initrd: "i", cmdline: "", protocol: "pvh" },
      onReset: "stop",
      devices: [{ plugin: "serial", id: "com1", at: "com1" }, null],
    };
    expect(parseMachineConfig(config)).toEqual({ ...config, devices: [config.devices[0], undefined] });
    expect(parseMachineConfig({ memory })).toEqual({ memory });
  });

  it.each([
    [[], "expected a mapping that describes a machine, found a list"],
    ["text", 'expected a mapping that describes a machine, found "text"'],
    [null, "expected a mapping that describes a machine, found null"],
    [{}, "memory: expected a mapping, found nothing"],
    [{ memory: 64 }, "memory: expected a mapping, found 64"],
    [{ memory: {} }, "memory.mib: expected a number, found nothing"],
    [{ memory: { mib: 0 } }, "memory.mib: expected a whole number from 1, found 0"],
    [{ memory: { mib: 1.5 } }, "memory.mib: expected a whole number from 1, found 1.5"],
    [{ memory: { mib: "64" } }, 'memory.mib: expected a whole number from 1, found "64"'],
    [{ memory, memroy: memory }, 'unknown key "memroy"; did you mean "memory"?'],
    [{ memroy: memory }, 'unknown key "memroy"; did you mean "memory"?'],
    [{ memory: { mib: 64, gib: 1 } }, 'memory: unknown key "gib"; did you mean "mib"?'],
    [{ memory, boot: { kernle: "x" } }, 'boot: unknown key "kernle"; did you mean "kernel"?'],
    [{ memory, vcpus: 0 }, "vcpus: expected a whole number from 1, found 0"],
    [{ memory, backend: "qemu" }, 'backend: expected "auto" or "kvm" or "soft", found "qemu"'],
    [
      { memory, boot: { kernel: "k", flat: { image: "f", gpa: 0, mode: "real" } } },
      "boot: expected either kernel or flat, not both, found a mapping",
    ],
    [
      { memory, boot: { flat: { image: "f", gpa: 0 } } },
      'boot.flat.mode: expected "real" or "protected" or "long", found nothing',
    ],
    [{ memory, devices: {} }, "devices: expected a list, found a mapping"],
    [
      { memory, devices: ["serial"] },
      'devices[0]: expected a device, as in { plugin: serial }, found "serial"',
    ],
    [{ memory, devices: [{ id: "x" }] }, "devices[0].plugin: expected a string, found nothing"],
    [
      { memory, devices: [null, { plugin: "p", id: "../x" }] },
      "devices[1].id: expected an id of letters, digits, '.', '_' and '-', found \"../x\"",
    ],
    [
      { memory, devices: [debugConsole] },
      "devices[0]: expected a device, found the plugin @fake/devices/debug-console: call it, as in plugin({…})",
    ],
  ])("refuses %j", (input, message) => {
    expect(problem(input)).toBe(message);
  });
});

describe("loadMachineConfig", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "northbridge-config-"));
  });
  afterAll(() => rm(directory, { recursive: true }));

  const file = async (name: string, text: string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, text);
    return path;
  };

  it("reads YAML and JSON, with paths relative to the file", async () => {
    const yaml = await file(
      "a.yaml",
      "memory: { mib: 64 }\nboot: { kernel: ./k, initrd: /i, cmdline: x=1 }\n",
    );
    const { config } = await loadMachineConfig(yaml);
    expect(config).toEqual({ memory, boot: { kernel: join(directory, "k"), initrd: "/i", cmdline: "x=1" } });
    const json = await file(
      "a.json",
      JSON.stringify({ memory, boot: { flat: { image: "f", gpa: 0x7c00, mode: "real" } } }),
    );
    expect((await loadMachineConfig(json)).config.boot).toEqual({
      flat: { image: join(directory, "f"), gpa: 0x7c00, mode: "real" },
    });
  });

  it("reads modules by either export", async () => {
    const byDefault = await file("a.mjs", "export default { memory: { mib: 64 } };");
    expect((await loadMachineConfig(byDefault)).config).toEqual({ memory });
    const byName = await file(
      "b.ts",
      "interface Config { memory: { mib: number } }\nexport const config: Config = { memory: { mib: 64 } };",
    );
    expect((await loadMachineConfig(byName)).config).toEqual({ memory });
    await expect(loadMachineConfig(await file("c.mjs", "export const machine = 1;"))).rejects.toThrow(
      /c\.mjs: expected a default export or an export called config, found machine$/,
    );
    await expect(loadMachineConfig(await file("d.mjs", "throw new Error('boom');"))).rejects.toThrow(
      /d\.mjs: cannot load .*: boom \(\S+d\.mjs:1\)$/,
    );
  });

  it("says file, line, place, expected and found", async () => {
    const broken = await file("b.yaml", "name: x\nmemory:\n  mib: lots\n");
    await expect(loadMachineConfig(broken)).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: `${broken}:3:8: memory.mib: expected a whole number from 1, found "lots"`,
    });
    await expect(loadMachineConfig(await file("c.yaml", "a: [1\nb: 2"))).rejects.toThrow(
      /c\.yaml:\d+:\d+: expected YAML or JSON: /,
    );
    await expect(loadMachineConfig(join(directory, "none.yaml"))).rejects.toMatchObject({
      code: "NB_CONFIG",
      message: expect.stringMatching(
        /none\.yaml: cannot read the machine config: there is no such file or directory$/,
      ),
    });
    await expect(loadMachineConfig(directory)).rejects.toThrow(/it is a directory$/);
    await expect(loadMachineConfig(await file("empty.yaml", ""))).rejects.toThrow(
      /expected a mapping that describes a machine, found null$/,
    );
  });

  it("explains errors that come later", async () => {
    const path = await file("later.yaml", "memory: { mib: 64 }\ndevices:\n  - plugin: a\n  - plugin: b\n");
    const { explain } = await loadMachineConfig(path);
    const error = new ConfigError("NB_UNKNOWN_PLUGIN", "devices[1].plugin", "no such plugin");
    expect(explain(error)).toMatchObject({
      code: "NB_UNKNOWN_PLUGIN",
      message: `${path}:4:13: devices[1].plugin: no such plugin`,
    });
    const other = new Error("other");
    expect(explain(other)).toBe(other);
  });

  it("changes what a module says of a device as what data says", async () => {
    const module = `const spec = { name: "a", config: {}, setup() {} };
      export default { memory: { mib: 64 }, devices: [{ spec, id: "x", input: { at: 1, to: { kind: "file" } } }] };`;
    const path = await file("set.mjs", module);
    const { config } = await loadMachineConfig(path, [
      "devices[0].at=2",
      "devices[0].to.kind=null",
      "devices[0].id=y",
    ]);
    expect(config.devices?.[0]).toMatchObject({ id: "y", input: { at: 2, to: { kind: null } } });
  });

  it("takes a device of data with an option called spec for what it is", async () => {
    const path = await file(
      "spec.yaml",
      "memory: { mib: 64 }\ndevices: [{ plugin: a, spec: { setup: x } }]\n",
    );
    const { config } = await loadMachineConfig(path, ["devices[0].at=1", "devices[0].spec.setup=y"]);
    expect(config.devices).toEqual([{ plugin: "a", at: 1, spec: { setup: "y" } }]);
  });

  it("changes single values first", async () => {
    const path = await file("set.yaml", "memory: { mib: 64 }\ndevices: [{ plugin: a, at: 1 }]\n");
    const load = async (...overrides: string[]): Promise<unknown> =>
      (await loadMachineConfig(path, overrides)).config;
    expect(
      await load("memory.mib=0x80", "boot.cmdline=a b=c", "devices[0].at=com2", "devices[1]={ plugin: b }"),
    ).toEqual({
      memory: { mib: 128 },
      boot: { cmdline: "a b=c" },
      devices: [{ plugin: "a", at: "com2" }, { plugin: "b" }],
    });
    expect(
      await load("boot.kernel=vmlinuz", "devices[0].disk={ kind: file, path: a.img }", "devices[0].path=/b"),
    ).toMatchObject({
      boot: { kernel: resolve("vmlinuz") },
      devices: [{ disk: { path: resolve("a.img") }, path: "/b" }],
    });
    await expect(load("memory")).rejects.toThrow('--set: expected PATH=VALUE, found "memory"');
    await expect(load("devices[7].at=1")).rejects.toThrow("expected an index up to 1, found 7");
    await expect(load("memory.mib.x=1")).rejects.toThrow('expected a mapping around "x", found 64');
    await expect(load("memory.mib=1.5")).rejects.toThrow(
      /memory\.mib: expected a whole number from 1, found 1\.5/,
    );
  });
});

describe("machineJsonSchema", () => {
  it("describes the machine and every plugin's config", () => {
    const schema = machineJsonSchema(new PluginRegistry([debugConsole, powerPort])) as {
      properties: Record<
        string,
        { enum?: string[]; items?: { anyOf: { properties: object; required: string[] }[] } }
      >;
      required: string[];
      additionalProperties: boolean;
    };
    expect(schema.required).toEqual(["memory"]);
    expect(schema.additionalProperties).toBe(false);
    expect(schema.properties["machine"]?.enum).toEqual(["bare-1"]);
    const [console] = schema.properties["devices"]?.items?.anyOf ?? [];
    expect(console?.required).toEqual(["plugin"]);
    expect(console?.properties).toMatchObject({
      plugin: { enum: ["debug-console", "@fake/devices/debug-console"] },
      port: { type: "integer", default: 0xe9 },
    });
  });
});
