import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";

const cli = join(import.meta.dirname, "../..");

let directory: string;
beforeEach(async () => {
  // Below the package, so that the module finds what it imports.
  await mkdir(join(cli, ".northbridge"), { recursive: true });
  directory = await mkdtemp(join(cli, ".northbridge", "uncaught-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const MODULE = `
import { defineMachine, definePlugin } from "@northbridge/sdk";
const gadget = definePlugin({
  name: "test/gadget",
  config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
  setup: () => ({
    resume() {
      void Promise.reject(new RangeError("too late")); // line 8
    },
  }),
});
export default defineMachine({ machine: "bare-1", memory: { mib: 1 }, devices: [gadget()] });
`;

it("ends the run with the device that left a promise to nobody, and the place where that was rejected", async () => {
  const module = join(directory, "machine.mjs");
  await writeFile(module, MODULE);
  const main = join(cli, "src/main.ts");
  const node = join(cli, "../../node_modules/.bin/node");
  const { status, stderr } = spawnSync(
    node,
    ["--conditions=northbridge-source", main, "run", module, "--backend", "soft"],
    { encoding: "utf8", cwd: directory },
  );
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(
      /the machine failed: device gadget: a callback of its own: too late \(thrown at \S+machine\.mjs:8:\d+\); what led/,
    ),
  ]);
});
