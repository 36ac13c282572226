import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PluginRegistry } from "@northbridge/core";
import { debugConsole, FakeHypervisor, type FakeStep, powerPort } from "@northbridge/core/testing";
import { definePlugin, Log, logLine } from "@northbridge/sdk";
import * as v from "valibot";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CliHarness, fake1, power, print, runFake } from "./testing/cli-harness.ts";

let directory: string;
let machine: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-cli-"));
  machine = await file("machine.yaml", "machine: fake-1\nclock: virtual\nmemory: { mib: 1 }\n");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const file = async (name: string, text: string): Promise<string> => {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
};

const OFF = power(0);

describe("northbridge", () => {
  it("says its version", async () => {
    const manifest = await readFile(new URL("../package.json", import.meta.url), "utf8");
    const { version } = JSON.parse(manifest) as { version: string };
    expect(await runFake([], "--version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });
});

describe("northbridge run", () => {
  it("shows the console and exits with 0 when the guest powers off", async () => {
    expect(await runFake([...print("hello\n"), OFF], "run", machine)).toEqual({
      code: 0,
      out: "hello\n",
      err: "",
    });
  });

  it("writes what devices log as they said it", async () => {
    const sayer = definePlugin({
      name: "test/sayer",
      config: v.strictObject({}),
      setup(ctx) {
        logLine(ctx.find(Log), ctx.id, "no network: /run/réseau.sock");
        return {};
      },
    });
    const registry = new PluginRegistry([debugConsole, powerPort, sayer], [fake1]);
    const harness = new CliHarness(new FakeHypervisor([OFF]), { registry });
    const path = await file(
      "log.json",
      '{"machine":"fake-1","memory":{"mib":1},"devices":[{"plugin":"sayer","id":"net0"}]}',
    );
    expect(await harness.run("run", path)).toMatchObject({
      code: 0,
      err: "net0: no network: /run/réseau.sock\n",
    });
  });

  it("exits with 3 when the guest panics or triple-faults", async () => {
    expect(await runFake([power(2)], "run", machine)).toEqual({
      code: 3,
      out: "",
      err: "northbridge: the guest panicked: the fake panicked\n",
    });
    const shutdown: FakeStep = () => ({ kind: "shutdown", detail: "#GP in #DF" });
    expect(await runFake([shutdown], "run", machine)).toMatchObject({
      code: 3,
      err: "northbridge: the guest triple-faulted: #GP in #DF\n",
    });
  });

  it("sees Linux panic, and lets it finish what it says", async () => {
    const text =
      "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\nCall Trace:\r\n" +
      "[ 1.1] ---[ end Kernel panic - not syncing: VFS ]---\r\n";
    const { code, out, err } = await runFake(print(text), "run", machine, "--clock", "realtime");
    expect([code, err]).toEqual([3, "northbridge: the guest panicked: VFS: Unable to mount root fs\n"]);
    expect(out.slice(0, text.length)).toBe(text);
  });

  it("takes the reset of a panicking Linux for the end of the panic", async () => {
    const said = "[ 1.0] Kernel panic - not syncing: sysrq\r\nCall Trace:\r\n";
    const { code, err } = await runFake([...print(said), power(1)], "run", machine);
    expect([code, err]).toEqual([3, "northbridge: the guest panicked: sysrq\n"]);
  });

  it("exits with 4 on a reset where the config says stop, and restarts otherwise", async () => {
    expect(await runFake([power(1)], "run", machine, "--set", "onReset=stop")).toMatchObject({
      code: 4,
      err: "",
    });
    let boots = 0;
    const twice: FakeStep = (vm, options) => power(++boots < 2 ? 1 : 0)(vm, options);
    expect(await runFake([...print("x"), twice], "run", machine)).toMatchObject({ code: 0, out: "xx" });
  });

  it("exits with 124 after --timeout", async () => {
    expect(await runFake(print("x"), "run", machine, "--timeout", "0.05")).toEqual({
      code: 124,
      out: "x",
      err: "northbridge: the machine did not end within 0.05 s\n",
    });
  });

  it("exits with 1 when the backend cannot go on", async () => {
    const error: FakeStep = () => ({ kind: "error", detail: "unknown instruction", rip: 0x10n });
    expect(await runFake([error], "run", machine)).toEqual({
      code: 1,
      out: "",
      err: "northbridge: the machine failed: vCPU 0: unknown instruction at 0x10\n",
    });
  });

  it("types what it reads at the guest, and goes on when that ends", async () => {
    const harness = new CliHarness(new FakeHypervisor([...print("bye"), OFF]));
    harness.stdin.end("input");
    expect(await harness.run("run", machine)).toEqual({ code: 0, out: "bye", err: "" });
  });

  it("says that nobody will type at the guest where standard input is empty", async () => {
    const wait: FakeStep = (_vm, { ports }) => void ports.read(0x80, 1);
    const run = (...args: readonly string[]): Promise<{ readonly code: number; readonly err: string }> => {
      const harness = new CliHarness(new FakeHypervisor([...Array.from({ length: 50 }, () => wait), OFF]));
      harness.stdin.end();
      return harness.run("run", machine, ...args);
    };
    expect(await run()).toMatchObject({
      code: 0,
      err: "northbridge: standard input is empty; the machine runs until its guest ends it, or --timeout does\n",
    });
    expect(await run("--timeout", "60")).toMatchObject({ code: 0, err: "" });
  });

  it("writes statistics with a milestone for each text", async () => {
    const stats = join(directory, "stats.json");
    const args = ["--expect", "one", "--expect", "three", "--stats", stats];
    const { code, err } = await runFake([...print("one two"), OFF], "run", machine, ...args);
    expect([code, err]).toEqual([0, 'northbridge: the guest never wrote "three"\n']);
    const written = JSON.parse(await readFile(stats, "utf8")) as { milestones: object };
    expect(written).toMatchObject({
      version: 1,
      backend: "fake",
      reason: { kind: "powerOff" },
      exitCode: 0,
      instructions: 7,
      devices: { console: { bytes: 7 } },
      resets: 0,
    });
    expect(Object.keys(written.milestones)).toEqual(["firstInstruction", "firstConsoleByte", "one"]);
  });

  it("finds out before the run that statistics cannot be written", async () => {
    const stats = join(directory, "none", "stats.json");
    expect(await runFake(print("x"), "run", machine, "--stats", stats)).toEqual({
      code: 1,
      out: "",
      err: `northbridge: ${stats}: cannot write the statistics: there is no such file or directory\n`,
    });
  });

  it("saves on a text and goes on in another process's machine", async () => {
    const to = join(directory, "snap");
    const program = [...print("before MARK after"), OFF];
    const first = await runFake(program, "run", machine, "--save-on", "MARK", to);
    expect(first).toMatchObject({ code: 0, err: `northbridge: saved to ${to}\n` });
    const second = await runFake(program, "run", machine, "--restore", to);
    expect(second.code).toBe(0);
    expect(first.out + second.out).toBe("before MARK after");
    const third = await runFake(program, "run", "--restore", to);
    expect(third).toEqual(second);
  });

  it("exits with 1 where it cannot save, before the guest runs, and leaves nothing", async () => {
    await file("used", "x");
    const { code, out, err } = await runFake(
      print("MARK more"),
      "run",
      machine,
      "--save-on",
      "MARK",
      join(directory, "used"),
    );
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^northbridge: \S+used: cannot save the machine: [^\n]+\n$/);
    expect((await readdir(directory)).sort()).toEqual(["machine.yaml", "used"]);
  });

  it("begins a line of its own below the guest's text on a terminal", async () => {
    const to = join(directory, "snap");
    const run = (text: string): Promise<{ readonly out: string; readonly err: string }> =>
      new CliHarness(new FakeHypervisor([...print(text), OFF]), { isTTY: true }).run(
        ...["run", machine, "--save-on", "MARK", `${to}${text.length}`],
      );
    expect(await run("a MARK")).toMatchObject({ out: "a MARK", err: `\r\nnorthbridge: saved to ${to}6\r\n` });
    const stopped = await new CliHarness(new FakeHypervisor([...print("line\n"), power(2)]), {
      isTTY: true,
    }).run("run", machine);
    expect(stopped.err).toBe("northbridge: the guest panicked: the fake panicked\r\n");
  });

  it("ends with Ctrl-A x, and restores the terminal", async () => {
    const harness = new CliHarness(new FakeHypervisor(print("guest")), { isTTY: true });
    const ended = harness.run("run", machine);
    harness.stdin.write("typed\x01x");
    expect(await ended).toMatchObject({ code: 0 });
    expect(harness.stdin.raw).toEqual([true, false]);
  });

  it("has a monitor behind Ctrl-A c", async () => {
    const harness = new CliHarness(new FakeHypervisor(), { isTTY: true });
    const ended = harness.run("run", machine);
    harness.stdin.write("\x01h\x01cstatuus\x7f\x7fs\rnonsense\rpause\r");
    let out = "";
    while (!out.includes("paused")) {
      await new Promise((done) => setImmediate(done));
      out += harness.taken().out;
    }
    harness.stdin.write("quit\r");
    expect((await ended).code).toBe(0);
    expect(out).toMatch(/Ctrl-A x +end the machine\r\n/);
    expect(out).toMatch(/\r\nrunning, guest time 0\.000 s\r\n/);
    expect(out).toContain('error: no command "nonsense"; try help');
  });

  it("says that a device paused the machine, and why; resume at the monitor goes on", async () => {
    const harness = new CliHarness(new FakeHypervisor([power(3), ...print("on"), OFF]), { isTTY: true });
    const ended = harness.run("run", machine);
    const said = { out: "", err: "" };
    const waitFor = async (what: string): Promise<void> => {
      while (!(said.out + said.err).includes(what)) {
        await new Promise((done) => setImmediate(done));
        const { out, err } = harness.taken();
        said.out += out;
        said.err += err;
      }
    };
    await waitFor("northbridge: paused: the fake is full; the monitor's resume tries again\r\n");
    harness.stdin.write("\x01cstatus\rdevice power how are you\rdevice console x\r");
    await waitFor("paused: the fake is full, guest time");
    await waitFor("how are you\r\n");
    await waitFor("error: expected a device that takes commands (power), found console");
    harness.stdin.write("resume\r");
    expect((await ended).code).toBe(0);
  });

  it("has a monitor behind a socket", async () => {
    const socket = join(directory, "monitor");
    const ended = runFake([], "run", machine, "--monitor", socket);
    let answers = "";
    const ask = async (): Promise<void> => {
      const client = connect(socket);
      client.on("data", (bytes) => (answers += bytes.toString()));
      await new Promise((done, failed) => client.on("connect", done).on("error", failed));
      client.write("status\nstats\nquit\n");
      await new Promise((done) => client.on("close", done));
    };
    for (;;) {
      try {
        await ask();
        break;
      } catch {
        await new Promise((done) => setTimeout(done, 5));
      }
    }
    expect((await ended).code).toBe(0);
    expect(await readdir(directory)).not.toContain("monitor");
    const [status, stats, quit] = answers.split("\n");
    expect(status).toMatch(/^running, guest time/);
    expect(JSON.parse(stats ?? "")).toMatchObject({ backend: { instructions: 7 } });
    expect(quit).toBe("ending");
  });
});

describe("bad input is one line and exit code 2", () => {
  it.each<[string, readonly string[], string]>([
    ["no machine", ["run"], "run: expected a MACHINE, --kernel or --restore, found none"],
    [
      "a missing file",
      ["run", "none.yaml"],
      "none.yaml: cannot read the machine config: there is no such file or directory",
    ],
    ["an unknown option", ["run", "--kernal", "x"], "unknown option '--kernal' (Did you mean --kernel?)"],
    ["an unknown command", ["runn"], "unknown command 'runn' (Did you mean run?)"],
    ["no command", [], "expected a command; see northbridge --help"],
    [
      "a bad timeout",
      ["run", "x", "--timeout", "soon"],
      "option '--timeout <SECONDS>' argument 'soon' is invalid. Expected seconds, as in 30 or 0.5, found \"soon\".",
    ],
    [
      "half a --save-on",
      ["run", "x", "--save-on", "TEXT"],
      "option '--save-on <TEXT DIR>' argument 'TEXT' is invalid. Expected a text and a directory: --save-on TEXT DIR.",
    ],
    [
      "a bad backend",
      ["run", "x", "--backend", "qemu"],
      "option '--backend <NAME>' argument 'qemu' is invalid. Allowed choices are auto, kvm, soft.",
    ],
    [
      "no snapshot",
      ["run", "--restore", "nowhere"],
      "nowhere: cannot restore: there is no manifest.json in it",
    ],
  ])("%s", async (_what, args, message) => {
    expect(await runFake([], ...args)).toEqual({ code: 2, out: "", err: `northbridge: ${message}\n` });
  });

  it.each<[string, string, string]>([
    ["an unknown key", "memory: { mib: 1 }\nvcpu: 2\n", ':2:1: unknown key "vcpu"; did you mean "vcpus"?'],
    ["no mapping", "- 1\n", ":1:1: expected a mapping that describes a machine, found a list"],
    ["no memory", "memory: { mib: 0 }\n", ":1:16: memory.mib: expected a whole number from 1, found 0"],
    [
      "too much memory",
      "machine: fake-1\nmemory: { mib: 65 }\n",
      ":2:16: memory.mib: expected at most 64, the limit of the fake backend, found 65",
    ],
    [
      "an unknown plugin",
      "machine: bare-1\nmemory: { mib: 1 }\ndevices: [{ plugin: debug-consol }]\n",
      ':3:21: devices[0].plugin: expected a plugin\'s name, found "debug-consol"; did you mean "debug-console"?',
    ],
    [
      "two devices with one id",
      "machine: bare-1\nmemory: { mib: 1 }\ndevices:\n- { plugin: power-port, id: a }\n- { plugin: debug-console, id: a }\n",
      ':5:32: devices[1].id: "a" is the id of devices[0] already',
    ],
    [
      "an unknown machine",
      "machine: fake-2\nmemory: { mib: 1 }\n",
      ':1:10: machine: expected one of bare-1, fake-1, found "fake-2"; did you mean "fake-1"?',
    ],
  ])("%s", async (_what, yaml, message) => {
    const path = await file("bad.yaml", yaml);
    const expected = { code: 2, out: "", err: `northbridge: ${path}${message}\n` };
    expect(await runFake([], "run", path)).toEqual(expected);
    expect(await runFake([], "validate", path)).toEqual(expected);
  });

  it("every problem, a line each, over every file", async () => {
    const path = await file(
      "bad.yaml",
      [
        "machine: fake-2",
        "memory: { mib: 65, gib: 1 }",
        "vcpus: none",
        "devices: [{ plugin: debug-consol }, x, { plugin: debug-console, prot: 1 }]",
        "",
      ].join("\n"),
    );
    const shape = [
      `${path}:2:20: memory: unknown key "gib"; did you mean "mib"?`,
      `${path}:3:8: vcpus: expected a whole number from 1, found "none"`,
      `${path}:4:37: devices[1]: expected a device, as in { plugin: serial }, found "x"`,
    ];
    const lines = (...problems: readonly string[]): string =>
      problems.map((problem) => `northbridge: ${problem}\n`).join("");
    expect(await runFake([], "run", path)).toEqual({ code: 2, out: "", err: lines(...shape) });
    expect(await runFake([], "validate", path, machine, "none.yaml")).toEqual({
      code: 2,
      out: `${machine}: ok\n`,
      err: lines(...shape, "none.yaml: cannot read the machine config: there is no such file or directory"),
    });
    const deeper = await file(
      "deeper.yaml",
      [
        "machine: fake-2",
        "memory: { mib: 65 }",
        "cpu: { features: { avx: true } }",
        "boot: { kernel: none, initrd: none }",
        "devices: [{ plugin: debug-consol }, { plugin: debug-console, prot: 1 }]",
        "",
      ].join("\n"),
    );
    expect((await runFake([], "validate", deeper)).err).toBe(
      lines(
        `${deeper}:1:10: machine: expected one of bare-1, fake-1, found "fake-2"; did you mean "fake-1"?`,
        `${deeper}:2:16: memory.mib: expected at most 64, the limit of the fake backend, found 65`,
        `${deeper}:3:6: cpu: the fake backend has no CPU models to choose from`,
        `${deeper}:5:21: devices[0].plugin: expected a plugin's name, found "debug-consol"; did you mean "debug-console"?`,
        `${deeper}:5:62: devices[1]: unknown key "prot"; did you mean "port"?`,
        `${deeper}:4:17: boot.kernel: expected a file that can be read, found ${directory}/none: there is no such file or directory`,
        `${deeper}:4:31: boot.initrd: expected a file that can be read, found ${directory}/none: there is no such file or directory`,
      ),
    );
  });

  it("what --set says, by the option", async () => {
    const set = (...options: readonly string[]): Promise<{ readonly code: number; readonly err: string }> =>
      runFake([], "validate", machine, ...options.flatMap((option) => ["--set", option]));
    const problems: readonly (readonly [options: readonly string[], message: string])[] = [
      [
        ["memory.mib=65"],
        "--set memory.mib=65: memory.mib: expected at most 64, the limit of the fake backend, found 65",
      ],
      [
        ["memory.mib=1", "memory.mib=x"],
        '--set memory.mib=x: memory.mib: expected a whole number from 1, found "x"',
      ],
      [["vcpu=2"], '--set vcpu=2: unknown key "vcpu"; did you mean "vcpus"?'],
      [
        ["devices[0]={ plugin: power-prot }"],
        `--set devices[0]={ plugin: power-prot }: devices[0].plugin: expected a plugin's name, found "power-prot"; did you mean "power-port"?`,
      ],
      [["memory.mib.x=1"], '--set memory.mib.x=1: expected a mapping around "x", found 1'],
      [["memory"], '--set: expected PATH=VALUE, found "memory"'],
    ];
    for (const [options, message] of problems)
      expect(await set(...options)).toMatchObject({ code: 2, err: `northbridge: ${message}\n` });
    expect(await runFake([], "run", "--kernel", "x", "--set", "vcpus=0")).toMatchObject({
      code: 2,
      err: "northbridge: --set vcpus=0: vcpus: expected a whole number from 1, found 0\n",
    });
  });

  it("overlapping devices, by name", async () => {
    const path = await file(
      "bad.yaml",
      "machine: fake-1\nmemory: { mib: 1 }\ndevices: [{ plugin: debug-console, port: 0xf4 }]\n",
    );
    expect(await runFake([], "run", path)).toEqual({
      code: 2,
      out: "",
      err: `northbridge: ${path}:3:11: devices[0]: debug-console [0xf4, 0xf5) overlaps power [0xf4, 0xf5) on the port bus\n`,
    });
  });

  it("a kernel that is none", async () => {
    const path = await file("kernel", "this is no kernel");
    const { code, out, err } = await runFake([], "run", machine, "--kernel", path);
    expect([code, out]).toEqual([2, ""]);
    expect(err).toMatch(/^northbridge: [^\n]*kernel[^\n]*\n$/);
  });

  it("shows a stack only under --debug", async () => {
    expect((await runFake([], "--debug", "run", "none.yaml")).err).toMatch(/\n +at /);
  });
});

describe("northbridge validate", () => {
  it("knows the kinds of host ends that a config's module exports", async () => {
    const text = (kind: string): string => `
      const any = { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } };
      export const tape = { kind: "tape", of: "block", options: any, open: () => { throw new Error("not opened"); } };
      const spec = { name: "@x/devices/reader", config: any, ends: { disk: "block" }, setup: () => ({}) };
      export default { machine: "bare-1", memory: { mib: 1 }, devices: [{ spec, input: { disk: { kind: "${kind}" } } }] };`;
    const known = await file("known.mjs", text("tape"));
    expect(await runFake([], "validate", known)).toEqual({ code: 0, out: `${known}: ok\n`, err: "" });
    const unknown = await file("unknown.mjs", text("tap"));
    expect((await runFake([], "validate", unknown)).err).toContain(
      'devices[0].disk.kind: expected a block back end, found "tap"; did you mean "tape"?',
    );
  });

  it("passes machines that could run", async () => {
    const other = await file("other.json", '{ "machine": "bare-1", "memory": { "mib": 1 } }');
    expect(await runFake([], "validate", machine, other)).toEqual({
      code: 0,
      out: `${machine}: ok\n${other}: ok\n`,
      err: "",
    });
  });

  it("misses a kernel that is not there", async () => {
    const path = await file(
      "no-kernel.yaml",
      "machine: fake-1\nmemory: { mib: 1 }\nboot: { kernel: ./none }\n",
    );
    expect(await runFake([], "validate", path)).toMatchObject({
      code: 2,
      err: `northbridge: ${path}:3:17: boot.kernel: expected a file that can be read, found ${join(directory, "none")}: there is no such file or directory\n`,
    });
  });

  it("looks into the kernel as a run would", async () => {
    await file("text", "no kernel");
    const path = await file(
      "bad-kernel.yaml",
      "machine: fake-1\nmemory: { mib: 1 }\nboot: { kernel: ./text }\n",
    );
    const error = `northbridge: ${join(directory, "text")}: expected a bzImage or an ELF vmlinux, found 9 bytes that begin with 6e 6f 20 6b 65 72 6e 65\n`;
    expect(await runFake([], "validate", path)).toMatchObject({ code: 2, err: error });
    expect(await runFake([], "run", path)).toMatchObject({ code: 2, err: error });
  });
});

describe("northbridge schema and doctor", () => {
  it("prints a JSON Schema with every plugin", async () => {
    const { code, out } = await runFake([], "schema");
    expect(code).toBe(0);
    const schema = JSON.parse(out) as { properties: { devices: { items: { anyOf: { title: string }[] } } } };
    expect(schema.properties.devices.items.anyOf.map(({ title }) => title)).toEqual([
      "@fake/devices/debug-console",
      "@fake/devices/power-port",
    ]);
  });

  it("finds the software backend usable, or exits with 1", async () => {
    const { code, out } = await runFake([], "doctor");
    expect(code).toBe(0);
    expect(out).toMatch(/^ok +soft backend +can run machines$/m);
    const broken = new CliHarness({
      name: "broken",
      createVm: () => Promise.reject(new Error("no WebAssembly")),
    });
    const found = await broken.run("doctor", "--json");
    expect(found.code).toBe(1);
    expect(JSON.parse(found.out)).toContainEqual({
      what: "soft backend",
      state: "broken",
      detail: "no WebAssembly",
    });
  });
});
