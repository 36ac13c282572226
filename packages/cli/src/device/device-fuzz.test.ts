import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness } from "../testing/cli-harness.ts";
import { CorpusDirectory } from "./corpus-directory.ts";

const cli = join(import.meta.dirname, "../..");

let directory: string;
beforeEach(async () => {
  await mkdir(join(cli, ".northbridge"), { recursive: true });
  directory = await mkdtemp(join(cli, ".northbridge", "fuzz-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A latch; `mask` is what it keeps of what it is written. */
const latch = (mask: string): string => `
import { bits, definePlugin, registerMap } from "@northbridge/sdk";
export const registers = registerMap("latch", { VALUE: { offset: 0, fields: { LOW: bits(0, 8) } } });
export const latch = definePlugin({
  name: "test/latch",
  config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
  setup(ctx, { base = 0x1000 }) {
    let value = 0;
    ctx.mapMmio({ base, length: 4 }, {
      read: (_offset, width) => (width === 4 ? value : 0),
      write(_offset, width, written) { if (width === 4) value = (written & ${mask}) >>> 0; },
    });
    return { reset() { value = 0; }, save: () => ({ value }), restore(state) { value = state.value; } };
  },
});
`;

it("finds what breaks a law, prints it as a test and keeps it for the next time", async () => {
  const good = join(directory, "good.mjs");
  const bad = join(directory, "bad.mjs");
  const corpus = join(directory, "corpus");
  await writeFile(good, latch("0xff"));
  await writeFile(bad, latch("0x1ff"));
  const harness = new CliHarness(new FakeHypervisor([]));
  const fuzz = (module: string, ...args: readonly string[]) =>
    harness.run("device", "fuzz", module, "--seconds", "0.3", "--corpus", corpus, ...args);
  expect(await fuzz(good)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^no law broken: \d+ rounds, \d+ kinds of behaviour seen, \d+ programs added/),
  });
  const found = await fuzz(bad, "--config", '{"base": 8192}');
  expect(found).toMatchObject({ code: 1, err: expect.stringContaining("a law is broken: register map") });
  expect(found.out).toMatch(
    /^register map: VALUE written \S+ reads|the device that was written other bits differs/,
  );
  expect(found.out).toContain(
    'const trial = await deviceTrial({ create: () => latch({"base":8192}), registers }, "register map");',
  );
  expect((await readdir(corpus)).filter((name) => name.startsWith("register-map-"))).toHaveLength(1);
  expect(await fuzz(bad)).toMatchObject({ code: 1, err: expect.stringContaining("register map") });
  expect(await fuzz(good)).toMatchObject({ code: 0 });
});

it("keeps what is new at once, under names that no file has", async () => {
  const corpus = join(directory, "corpus");
  await mkdir(corpus);
  // As after a file before it was thrown away.
  const kept = '{"program":[{"op":"timer"}],"experiment":{"cut":0,"pick":0,"value":0}}\n';
  await writeFile(join(corpus, "new-0001.json"), kept);
  const directoryNow = CorpusDirectory.open(corpus);
  const entry = { program: [{ op: "advance", ns: 1 }], experiment: { cut: 1, pick: 0, value: 0 } } as const;
  directoryNow.add(entry);
  directoryNow.add(entry);
  expect([directoryNow.added, (await readdir(corpus)).sort()]).toEqual([
    1,
    ["new-0001.json", "new-0002.json"],
  ]);
  expect(await readFile(join(corpus, "new-0001.json"), "utf8")).toBe(kept);
  await writeFile(join(corpus, "new-0003.json"), "{");
  expect(() => CorpusDirectory.open(corpus)).toThrow(
    /new-0003\.json: expected \{ program, experiment \} as JSON/,
  );
});

/** A counter of writes with an interrupt, in TypeScript; `bug` replaces a piece of it. */
const gauge = (from: string, to: string): string => {
  const source = `import { bit, definePlugin, type ConfigSchema, type RegisterState, registerMap } from "@northbridge/sdk";
export const registers = registerMap("gauge", {
  CTRL: { offset: 0, fields: { ENABLE: bit(0) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0) } },
  LEVELS: { offset: 8, count: 2, width: 2, reset: 7 },
});
const config: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ({ value: value as object }) },
};
interface State { readonly regs: RegisterState; readonly nextNs: number | null }
export const gauge = definePlugin({
  name: "test/gauge",
  config,
  setup(ctx) {
    const line = ctx.irq(3);
    const timer = ctx.clock.createTimer(() => {
      regs.values.STATUS |= 1;
      sync();
    });
    const sync = (): void => line.set(regs.values.STATUS !== 0);
    const enable = (stored: number): void => {
      if (stored !== 0) timer.arm(ctx.clock.nowNs() + 1000);
    };
    const regs = registers.create({ hooks: { CTRL: { write: enable } }, sync });
    ctx.mapMmio({ base: 0x1000, length: registers.length }, {
      read: (offset, width) => regs.read(offset, width),
      write: (offset, width, value) => { regs.write(offset, width, value); },
    });
    return {
      reset() { regs.reset(); timer.disarm(); line.set(false); },
      save: (): State => ({ regs: regs.save(), nextNs: timer.deadlineNs ?? null }),
      restore(state: State) {
        regs.restore(state.regs);
        if (state.nextNs !== null) timer.arm(state.nextNs);
        line.adopt(regs.values.STATUS !== 0);
      },
    };
  },
});
`;
  expect(source).toContain(from);
  return source.replace(from, to);
};

const BUGS: Readonly<Record<string, readonly [from: string, to: string]>> = {
  fuzz: ["regs.read(offset, width),", "regs.read(offset, width) + 0.5 * regs.values.STATUS,"],
  "register map": ["regs.values.STATUS |= 1;", "regs.values.STATUS |= 3;"],
  "save and restore": ["if (state.nextNs !== null) timer.arm(state.nextNs);", ""],
  reset: ["timer.disarm(); line", "line"],
  "interrupt levels": [
    "      sync();\n    });",
    "      sync();\n      line.set(false);\n      regs.values.STATUS = 0;\n    });",
  ],
};

/** A virtio device that fails requests of a length that it does not expect. */
const BRITTLE = `import { attachVirtio } from "@northbridge/devices-virtio";
import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { serve, type VirtioDevice, type VirtioSession } from "@northbridge/sdk/virtio";
const config: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value: unknown) => ({ value: value as object }) },
};
function device(): VirtioDevice {
  let session: VirtioSession | undefined;
  return {
    deviceId: 4,
    features: [],
    queues: [8],
    config: new Uint8Array(0),
    start: (started) => void (session = started),
    notify(index) {
      const queue = session?.queue(index);
      if (queue === undefined) return;
      serve(queue, (chain) => {
        if (chain.writableBytes === 0) throw new RangeError("no room for an answer");
        queue.push(chain, 0);
      });
    },
    reset: () => void (session = undefined),
    save: () => undefined,
    restore: () => undefined,
  };
}
export const brittle: DevicePlugin<object> = definePlugin({
  name: "test/brittle",
  config,
  setup: (ctx) => attachVirtio(ctx, device(), {}),
});
`;

it("drives the queues of a virtio device", { timeout: 60_000 }, async () => {
  const harness = new CliHarness(new FakeHypervisor([]));
  const module = join(directory, "brittle.ts");
  await writeFile(module, BRITTLE);
  const corpus = join(directory, "corpus");
  const fuzz = () => harness.run("device", "fuzz", module, "--seconds", "5", "--corpus", corpus);
  for (let time = 0; time < 2; time++) {
    const { code, out, err } = await fuzz();
    expect(code).toBe(1);
    expect(err).toContain("a law is broken: hostile driver");
    expect(out).toMatch(/^hostile driver: device brittle: notify of queue 0: no room for an answer \(seed/);
    expect(out).toMatch(/await hostileTrial\(\{ create: \(\) => brittle\(\) \}, \{"packed":\w+.*\}, \[\n/);
  }
  expect((await readdir(corpus)).filter((name) => name.startsWith("hostile-driver-"))).toHaveLength(1);
  const mended = join(directory, "mended.ts");
  await writeFile(mended, BRITTLE.replace(/if \(chain.*\n/, "\n"));
  expect(await harness.run("device", "fuzz", mended, "--seconds", "0.2", "--corpus", corpus)).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^no law broken: .* [1-9]\d* requests of hostile drivers taken/),
  });
});

it("prints tests that compile, and fail in the same words", { timeout: 300_000 }, async () => {
  const root = join(cli, "../..");
  const harness = new CliHarness(new FakeHypervisor([]));
  const messages: string[] = [];
  const sources = Object.entries(BUGS).map(([law, [from, to]]) => [law, gauge(from, to)] as const);
  for (const [law, source] of [...sources, ["hostile driver", BRITTLE] as const]) {
    const name = law.replaceAll(" ", "-");
    const module = join(directory, `${name}.ts`);
    await writeFile(module, source);
    const { out, err } = await harness.run("device", "fuzz", module, "--seconds", "20");
    expect(err, law).toContain(`a law is broken: ${law}`);
    const [message = "", ...rest] = out.split("\n\n");
    messages.push(message.replace(/ \(seed .*$/, "").slice(`${law}: `.length));
    const text = rest.join("\n\n").replace(relative(process.cwd(), directory), ".").replaceAll("././", "./");
    await writeFile(join(directory, `${name}.test.ts`), text);
  }
  const run = (...args: readonly string[]) =>
    spawnSync(join(root, "node_modules/.bin/node"), args, {
      cwd: directory,
      encoding: "utf8",
      env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
    });
  const conditions = JSON.stringify(["northbridge-source"]);
  await writeFile(
    join(directory, "vitest.config.mjs"),
    `export default { resolve: { conditions: ${conditions} }, ssr: { resolve: { conditions: ${conditions} } } };\n`,
  );
  const tests = run(join(root, "node_modules/vitest/vitest.mjs"), "run", "--root", directory);
  expect(tests.stdout).toMatch(/Tests +6 failed \(6\)/);
  for (const message of messages) expect(tests.stdout + tests.stderr).toContain(`: ${message}`);
  await writeFile(
    join(directory, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.base.json"),
      compilerOptions: { noEmit: true, isolatedDeclarations: false, declaration: false, types: [] },
      include: ["*.ts"],
    }),
  );
  expect(run(join(root, "node_modules/typescript/bin/tsc"), "-p", directory).stdout).toBe("");
});

it("refuses modules without one plugin", async () => {
  const none = join(directory, "none.mjs");
  await writeFile(none, "export const nothing = 1;");
  const harness = new CliHarness(new FakeHypervisor([]));
  expect(await harness.run("device", "fuzz", none)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/none\.mjs: expected one plugin, or --plugin NAME, found none/),
  });
  const good = join(directory, "good.mjs");
  await writeFile(good, latch("0xff"));
  const corpus = join(directory, "no", "where");
  expect(await harness.run("device", "fuzz", good, "--corpus", corpus)).toMatchObject({
    code: 1,
    err: `northbridge: ${corpus}: cannot read the corpus: there is no such file or directory\n`,
  });
  expect(await harness.run("device", "fuzz", join(directory, "absent.mjs"))).toMatchObject({
    code: 2,
    err: expect.stringMatching(/absent\.mjs: cannot load the module: there is no such file or directory\n$/),
  });
});
