import { spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterEach, beforeEach, expect, it } from "vitest";
import { builtInRegistry } from "../built-in-registry.ts";
import { CliHarness } from "../testing/cli-harness.ts";

const isHere = process.platform === "linux" && process.arch === "x64";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-vhost-user-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const serve = (...args: readonly string[]): ReturnType<CliHarness["run"]> =>
  new CliHarness(new FakeHypervisor(), { registry: builtInRegistry() }).run("vhost-user", ...args);
const path = (name: string): string => join(directory, name);

/** A module whose device does `what` when it is made, and then nothing. */
async function moduleThat(what: string): Promise<string> {
  await writeFile(
    path("odd.mjs"),
    `import { VirtioTransport } from ${JSON.stringify(import.meta.resolve("@northbridge/sdk/virtio"))};
    const nothing = () => undefined;
    const device = {
      deviceId: 4, features: [], queues: [8], config: new Uint8Array(0),
      start: nothing, notify: nothing, reset: nothing, save: nothing, restore: nothing,
    };
    const setup = (ctx) => {
      ${what}
      return ctx.get(VirtioTransport).attach(ctx, device);
    };
    const config = { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } };
    export const odd = Object.assign(nothing, { pluginName: "test/odd", spec: { name: "test/odd", config, setup } });`,
  );
  return path("odd.mjs");
}

it.skipIf(!isHere)(
  "says in one line, and by the device's name, what of a command line cannot be served",
  async () => {
    const said = async (...args: readonly string[]): Promise<string> => {
      const { code, err, out } = await serve(...args);
      expect([code === 0, out]).toEqual([false, ""]);
      return err;
    };
    const socket = path("x.sock");
    expect(await said("blok", "--socket", socket)).toBe(
      'northbridge: DEVICE: expected a device\'s name or a module, found "blok"; did you mean "blk"?\n',
    );
    expect(await said("quux", "--socket", socket)).toMatch(/found "quux"; there are balloon, blk, console, /);
    expect(await said(path("nope.ts"), "--socket", socket)).toBe(
      `northbridge: ${path("nope.ts")}: cannot load the module: there is no such file or directory\n`,
    );
    expect(await said("pmem", "--socket", socket, "--set", "mib=1")).toBe(
      "northbridge: pmem: file: expected a mapping, found nothing\n" +
        "northbridge: pmem: mib: expected an even number of MiB, from 2 to 4096, found 1\n",
    );
    expect(await said("rng", "--socket", path("no/x.sock"))).toBe(
      `northbridge: ${path("no/x.sock")}: cannot listen: there is no directory ${path("no")}\n`,
    );
    expect(await said("rng", "--fd", "999999")).toBe(
      "northbridge: vhost-user: --fd 999999: expected a connected socket, found no descriptor of that number\n",
    );
    const file = openSync(await moduleThat(""), "r");
    expect(await said("rng", "--fd", String(file))).toBe(
      `northbridge: vhost-user: --fd ${file}: expected a connected socket, found something else\n`,
    );
    closeSync(file);
  },
);

it.skipIf(!isHere)("ends, by the device's name, with a device whose timer throws", async () => {
  const module = await moduleThat('ctx.clock.createTimer(() => { throw new Error("too late"); }).arm(1000);');
  expect(await serve(module, "--socket", path("x.sock"))).toMatchObject({
    code: 1,
    err: "northbridge: device odd: a timer: too late\n",
  });
});

it.skipIf(!isHere)("ends, by the device's name, with what it throws where nobody called it", async () => {
  const module = await moduleThat('setTimeout(() => { throw new Error("nobody asked"); }, 1);');
  const node = join(import.meta.dirname, "../../../../node_modules/.bin/node");
  const main = join(import.meta.dirname, "../main.ts");
  const { status, stderr } = spawnSync(
    node,
    ["--conditions=northbridge-source", main, "vhost-user", module, "--socket", path("x.sock")],
    { encoding: "utf8" },
  );
  expect(stderr).toMatch(
    /^northbridge: device odd: a callback of its own: nobody asked \(thrown at \S+odd\.mjs:\d+:\d+\)\n$/,
  );
  expect(status).toBe(1);
});
