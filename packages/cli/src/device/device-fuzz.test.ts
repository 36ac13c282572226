import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness } from "../testing/cli-harness.ts";

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
  expect(found.out).toContain('const bench = await testBench(latch({"base":8192}), { registers: map });');
  expect((await readdir(corpus)).filter((name) => name.startsWith("register-map-"))).toHaveLength(1);
  expect(await fuzz(bad)).toMatchObject({ code: 1, err: expect.stringContaining("register map") });
  expect(await fuzz(good)).toMatchObject({ code: 0 });
});

it("refuses modules without one plugin", async () => {
  const none = join(directory, "none.mjs");
  await writeFile(none, "export const nothing = 1;");
  const harness = new CliHarness(new FakeHypervisor([]));
  expect(await harness.run("device", "fuzz", none)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/none\.mjs: expected one plugin, or --plugin NAME, found none/),
  });
  expect(await harness.run("device", "fuzz", join(directory, "absent.mjs"))).toMatchObject({
    code: 2,
    err: expect.stringContaining("cannot load the module"),
  });
});
