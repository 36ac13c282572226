import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debugConsole, fakePlugin, FakeHypervisor, powerPort } from "@northbridge/core/testing";
import { PluginRegistry } from "@northbridge/core";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness, fake1, power, print } from "../testing/cli-harness.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-trace-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const write = async (name: string, text: string): Promise<string> => {
  const file = join(directory, name);
  await writeFile(file, text);
  return file;
};

/** The fake console of another version: it drops what is not a lower-case letter. */
const OTHER_CONSOLE = `
import { Console } from "@northbridge/core/contracts";
export const debugConsole = Object.assign(() => undefined, {
  pluginName: "@fake/devices/debug-console",
  spec: {
    name: "@fake/devices/debug-console",
    setup(ctx, { port }) {
      const console = ctx.get(Console);
      const drop = (value) => value < 97;
      ctx.mapPorts({ base: port, length: 1 }, {
        read: () => 0,
        write: (_offset, _width, value) => { if (!drop(value)) console.write(value); },
      });
      return {};
    },
  },
});
`.replace("@northbridge/core/contracts", import.meta.resolve("@northbridge/core/contracts"));

it("says why it records nothing, also where the directory of the trace has gone meanwhile", async () => {
  const machine = await write("machine.json", JSON.stringify({ machine: "fake-1", memory: { mib: 1 } }));
  const place = join(directory, "traces");
  await mkdir(place);
  const vanishing = fakePlugin("test/vanishing", async () => {
    await rm(place, { recursive: true });
    await writeFile(place, "");
    throw new Error("no such luck");
  });
  const type = {
    ...fake1,
    devices: () => [vanishing({}, { id: "first" }), ...fake1.devices(undefined as never)],
  };
  const registry = new PluginRegistry([debugConsole, powerPort, vanishing], [type]);
  const harness = new CliHarness(new FakeHypervisor([power(0)]), { registry });
  const { code, err } = await harness.run(
    "trace",
    "record",
    machine,
    "--device",
    "console",
    "--out",
    join(place, "t"),
  );
  expect([code, err]).toEqual([1, expect.stringContaining("no such luck")]);
});

it("records a device of a machine, shows it, replays it and cuts it", async () => {
  const machine = await write("machine.json", JSON.stringify({ machine: "fake-1", memory: { mib: 1 } }));
  const other = await write("other.mjs", OTHER_CONSOLE);
  const trace = join(directory, "console.trace");
  const harness = new CliHarness(new FakeHypervisor([...print("okay, Sir"), power(0)]));
  await writeFile(trace, "x".repeat(100_000)); // a longer one, of an earlier run
  expect(await harness.run("trace", "record", machine, "--device", "console", "--out", trace)).toMatchObject({
    code: 0,
    err: "",
  });
  const shown = await harness.run("trace", "show", trace);
  expect(shown.out).toMatch(
    /^# device console \(@fake\/devices\/debug-console\), realtime clock\nsetUp\nmap console at ports 0xe9 \+0x1\n/,
  );
  expect(shown.out).toContain("write console+0x0 = 0x6f (1 bytes)\n  northbridge:console.write[111] → {}\n");
  expect(await harness.run("trace", "replay", trace)).toMatchObject({
    code: 0,
    out: expect.stringContaining("does the same"),
  });
  const differs = await harness.run("trace", "replay", trace, "--module", other);
  expect(differs).toMatchObject({
    code: 1,
    err: expect.stringContaining("something else than the recorded"),
  });
  expect(differs.out).toMatch(/expected northbridge:console.write\[44\]/);
  const short = join(directory, "short.trace");
  expect(await harness.run("trace", "shrink", trace, "--module", other, "--out", short)).toMatchObject({
    code: 0,
  });
  expect((await readFile(short)).length).toBeLessThan((await readFile(trace)).length);
  expect((await harness.run("trace", "show", short)).out).toMatch(
    /= 0x2c \(1 bytes\)\n.*write\[44\] → \{\}\n$/,
  );
  expect(await harness.run("trace", "shrink", trace, "--out", short)).toMatchObject({
    code: 1,
    err: expect.stringContaining("does not fail"),
  });
});

it("shows a trace with the names of its device, and not with another's", async () => {
  const machine = await write("machine.json", JSON.stringify({ machine: "fake-1", memory: { mib: 1 } }));
  const trace = join(directory, "console.trace");
  const harness = new CliHarness(new FakeHypervisor([...print("o"), power(0)]));
  await harness.run("trace", "record", machine, "--device", "console", "--out", trace);
  const map = (plugins: string): string => `
    import { bits, registerMap } from ${JSON.stringify(import.meta.resolve("@northbridge/sdk"))};
    export const registers = registerMap("letters", { LETTER: { offset: 0, width: 1, fields: { LOW: bits(0, 4) } } });
    ${plugins}`;
  const other = OTHER_CONSOLE.replaceAll("@fake/devices/debug-console", "@fake/devices/thermometer");
  const own = await write("own.mjs", map(OTHER_CONSOLE));
  const alone = await write("alone.mjs", map(""));
  const wrong = await write("wrong.mjs", map(other));
  const empty = await write("empty.mjs", "export const nothing = 1;");
  for (const module of [own, alone]) {
    expect(await harness.run("trace", "show", trace, "--module", module)).toMatchObject({
      code: 0,
      out: expect.stringMatching(/\nwrite LETTER = 0x6f \{.*LOW.*\n/),
    });
  }
  for (const command of ["show", "replay"]) {
    expect(await harness.run("trace", command, trace, "--module", wrong)).toMatchObject({
      code: 2,
      err: `northbridge: ${trace}: ${wrong}: expected the plugin @fake/devices/debug-console, found @fake/devices/thermometer\n`,
    });
  }
  expect(await harness.run("trace", "show", trace, "--module", empty)).toMatchObject({
    code: 2,
    err: expect.stringContaining("expected the plugin @fake/devices/debug-console, found none"),
  });
});

it("refuses devices that are not there, files that are no traces and modules without the plugin", async () => {
  const machine = await write("machine.json", JSON.stringify({ machine: "fake-1", memory: { mib: 1 } }));
  const harness = new CliHarness(new FakeHypervisor([power(0)]));
  const earlier = await write("earlier.trace", "of an earlier run");
  for (const out of [join(directory, "x"), earlier]) {
    expect(await harness.run("trace", "record", machine, "--device", "modem", "--out", out)).toMatchObject({
      code: 2,
      err: expect.stringMatching(/found modem; there are console, power/),
    });
  }
  expect(await readFile(earlier, "utf8")).toBe("of an earlier run");
  expect(await readdir(directory)).not.toContain("x");
  expect(await harness.run("trace", "show", machine)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/machine\.json: not a trace of a device/),
  });
  expect(
    await harness.run("trace", "record", machine, "--device", "console", "--out", "/nowhere/x"),
  ).toMatchObject({ code: 1, err: expect.stringContaining("cannot write the trace") });
});

it("reports a device that breaks its contract by name and access, with what led to it in a file", async () => {
  const broken = fakePlugin("@fake/devices/broken", (ctx) => {
    ctx.mapPorts(
      { base: 0x50, length: 4 },
      { read: (offset) => (offset === 2 ? Number.NaN : 7), write: () => undefined },
    );
    return {};
  });
  const machine = await write(
    "machine.json",
    JSON.stringify({ machine: "fake-1", memory: { mib: 1 }, devices: [{ plugin: "broken", id: "odd" }] }),
  );
  const read =
    (port: number) =>
    (_vm: unknown, { ports }: { readonly ports: { read(port: number, width: 1): number } }): undefined =>
      void ports.read(port, 1);
  const hypervisor = new FakeHypervisor([read(0x51), read(0x52)]);
  const registry = new PluginRegistry(
    [broken, ...fake1.devices({} as never).map(({ spec }) => ({ pluginName: spec.name, spec }))],
    [fake1],
  );
  const harness = new CliHarness(hypervisor, { registry });
  const before = process.cwd();
  process.chdir(directory);
  try {
    const { code, err } = await harness.run("run", machine);
    expect(code).toBe(1);
    expect(err).toMatch(
      /the machine failed: device odd: read odd\+0x2 \(1 byte\): gave NaN, expected an unsigned integer.*; what led to it is in (\S+); to replay all of it: /,
    );
    const [, file = ""] = /is in (\S+);/.exec(err) ?? [];
    expect(await readFile(join(directory, file), "utf8")).toMatch(
      /last accesses:\nread odd\+0x1 = 0x7 \(1 byte\)\n\nall of them, to replay:\nnorthbridge trace record /,
    );
    // What it says to do gives a trace that shows the fault, and replays it.
    const [, command = ""] = /to replay all of it: northbridge (.*)\n/.exec(err) ?? [];
    const recorded = await harness.run(...command.split(" "));
    expect(recorded.code).toBe(1);
    const [, replay = ""] = /to replay all of it: northbridge (.*)\n/.exec(recorded.err) ?? [];
    expect(replay).toBe("trace replay odd.trace");
    const shown = await harness.run("trace", "show", "odd.trace");
    expect(shown.out).toContain("read odd+0x1 = 0x7 (1 bytes)\nread odd+0x2");
    expect(await harness.run(...replay.split(" "))).toMatchObject({
      code: 1,
      out: expect.stringMatching(/^record \d+: read odd\+0x2 .*: the device threw: gave NaN\n/),
    });
  } finally {
    process.chdir(before);
  }
});
