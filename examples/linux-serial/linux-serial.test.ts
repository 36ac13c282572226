import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

const here = import.meta.dirname;
const cli = join(here, "node_modules", "@northbridge", "cli");
const guest = join(here, "guest", "vmlinuz");

interface Manifest {
  readonly bin: { readonly northbridge: string };
}

/** Runs the example's machine; types `input` when the shell prompts; resolves with all there is to see at its end. */
async function boot(
  input: string,
  ...more: readonly string[]
): Promise<{ readonly code: number | null; readonly console: string }> {
  const { bin } = JSON.parse(readFileSync(join(cli, "package.json"), "utf8")) as Manifest;
  const machine = spawn(join(here, "..", "..", "node_modules", ".bin", "node"), [
    join(cli, bin.northbridge),
    "run",
    join(here, "machine.yaml"),
    "--timeout",
    "280",
    ...more,
  ]);
  let console = "";
  let isTyped = false;
  const see = (bytes: Buffer): void => {
    console += bytes.toString("latin1");
    // The shell asks the terminal where its cursor is, right behind the prompt.
    if (isTyped || !/\n~ # (\x1b\[6n)?$/.test(console)) return;
    isTyped = true;
    machine.stdin.write(input);
  };
  machine.stdout.on("data", see);
  machine.stderr.on("data", see);
  const code = await new Promise<number | null>((resolve) => machine.on("close", resolve));
  return { code, console };
}

it("boots Linux to a shell that computes, and powers off", { timeout: 300_000 }, async (context) => {
  context.skip(!existsSync(guest), "no guest: northbridge guest linux --out examples/linux-serial/guest");
  const end = await boot("uname -m; seq 1 1000 | sha256sum; poweroff -f\n");
  const numbers = Array.from({ length: 1000 }, (_, index) => `${index + 1}\n`).join("");
  expect(end.console).toMatch(/^x86_64\r?$/m);
  expect(end.console).toContain(createHash("sha256").update(numbers).digest("hex"));
  expect(end.code).toBe(0);
});

it("goes on in another process where it was saved", { timeout: 600_000 }, async (context) => {
  context.skip(!existsSync(guest), "no guest: northbridge guest linux --out examples/linux-serial/guest");
  const directory = await mkdtemp(join(tmpdir(), "northbridge-linux-"));
  try {
    const snapshot = join(directory, "snapshot");
    // Quoted, so that the shell's echo of the line is not the text.
    const first = await boot("a=6 b=7; echo 'SAVE'D\n", "--save-on", "SAVED", snapshot);
    expect(first.code).toBe(0);
    const second = await boot("echo $((a * b)) answered; poweroff -f\n", "--restore", snapshot);
    expect(second.console).toMatch(/^42 answered\r?$/m);
    expect(second.console).not.toContain("Northbridge guest ready");
    expect(second.code).toBe(0);
  } finally {
    await rm(directory, { recursive: true });
  }
});

it("has the same RAM and state twice under a virtual clock", { timeout: 600_000 }, async (context) => {
  context.skip(!existsSync(guest), "no guest: northbridge guest linux --out examples/linux-serial/guest");
  const directory = await mkdtemp(join(tmpdir(), "northbridge-linux-"));
  const digestOf = async (name: string): Promise<string> => {
    const hash = createHash("sha256");
    for (const file of ["ram.pages", "manifest.json"])
      hash.update(await readFile(join(directory, name, file)));
    return hash.digest("hex");
  };
  try {
    const args = ["--clock", "virtual", "--set", "vcpus=2"];
    const runs = [];
    for (const name of ["one", "two"]) {
      const { console } = await boot("", ...args, "--save-on", "~ # ", join(directory, name));
      runs.push({ console: console.replace(join(directory, name), ""), digest: await digestOf(name) });
    }
    expect(runs[0]?.console).toContain("Northbridge guest ready");
    expect(runs[1]).toEqual(runs[0]);
  } finally {
    await rm(directory, { recursive: true });
  }
});
