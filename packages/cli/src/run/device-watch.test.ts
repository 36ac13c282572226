import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FakeHypervisor } from "@northbridge/core/testing";
import { al, Assembler, dx, ecx, edx } from "@northbridge/sdk/asm";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CliHarness } from "../testing/cli-harness.ts";

const cli = join(import.meta.dirname, "../..");
const ORIGIN = 0x10_0000;
const PORT = 0x50;
const COM1 = 0x3f8;

let directory: string;
beforeEach(async () => {
  // Below the package, so that the project finds what it depends on as if it were installed.
  await mkdir(join(cli, ".northbridge"), { recursive: true });
  directory = await mkdtemp(join(cli, ".northbridge", "watch-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A device whose port answers with a letter and counts how often; version 2 saves it by another name. */
const device = (letter: string, key: string): string => `
import { definePlugin } from "@northbridge/sdk";
export const letter = definePlugin({
  name: "test/letter",
  config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
  setup(ctx) {
    let ${key} = 0;
    ctx.mapPorts({ base: ${PORT}, length: 1 }, { read: () => (${key}++, ${letter.charCodeAt(0)}), write: () => undefined });
    return {
      save: () => ({ ${key} }),
      restore(state) {
        if (state.${key} === undefined) throw new Error("no ${key} in the saved state");
        ${key} = state.${key};
      },
    };
  },
});
`;

it("replaces a device in a running guest when its module changes", async () => {
  const a = new Assembler({ origin: ORIGIN });
  a.label("again");
  a.mov(edx, PORT);
  a.in(al, dx);
  a.mov(edx, COM1);
  a.out(dx, al);
  a.mov(ecx, 200_000);
  a.label("wait");
  a.dec(ecx);
  a.j("nz", "wait");
  a.jmp("again");
  await writeFile(join(directory, "guest"), a.finish());
  await writeFile(
    join(directory, "machine.config.mjs"),
    `import { letter } from "./letter.mjs";
export default {
  memory: { mib: 4 },
  boot: { flat: { image: "guest", gpa: ${ORIGIN}, mode: "long" } },
  devices: [letter({}, { id: "letter" })],
};`,
  );
  const save = (text: string): Promise<void> => writeFile(join(directory, "letter.mjs"), text);
  await save(device("a", "count"));
  const child = spawn(
    process.execPath,
    [
      "--conditions=northbridge-source",
      join(cli, "src/main.ts"),
      ...["run", join(directory, "machine.config.mjs"), "--backend", "soft", "--watch", "--timeout", "100"],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const seen = { out: "", err: "" };
  let look = (): void => undefined;
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("latin1").on("data", (text: string) => {
      seen[stream === "stdout" ? "out" : "err"] += text;
      look();
    });
  }
  const until = (what: "out" | "err", pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      look = () => {
        if (pattern.test(seen[what])) resolve();
      };
      child.once("exit", (code) => reject(new Error(`ended with ${code}: ${seen.err}`)));
      look();
    });
  try {
    await until("out", /aaa/);
    await save(device("b", "count"));
    await until("err", /letter: reloaded/);
    await until("out", /bbb/);
    await save(device("c", "total"));
    await until("err", /letter: not reloaded: no total in the saved state \(\S+letter\.mjs:\d+\)/);
    await save("this is no module");
    await until("err", /not reloaded: .*cannot load the machine config/);
    seen.out = "";
    await until("out", /bbb/);
    await save(device("d", "count"));
    await until("out", /ddd/);
    expect(seen.out).toMatch(/^b+d+$/);
    // As editors do: a new file in the place of the old one, more than once.
    for (const letter of "ef") {
      await writeFile(join(directory, "letter.new"), device(letter, "count"));
      await rename(join(directory, "letter.new"), join(directory, "letter.mjs"));
      await until("out", new RegExp(letter.repeat(3)));
    }
  } finally {
    child.kill("SIGKILL");
  }
}, 100_000);

it("refuses to watch a machine that has no devices of its own", async () => {
  const file = join(directory, "machine.json");
  await writeFile(file, JSON.stringify({ machine: "fake-1", memory: { mib: 1 } }));
  const harness = new CliHarness(new FakeHypervisor([]));
  expect(await harness.run("run", file, "--watch")).toMatchObject({
    code: 2,
    err: expect.stringContaining("expected a device from a module of this machine's, found none"),
  });
});
