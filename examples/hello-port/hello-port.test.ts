import { existsSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { builtInHypervisor, registryFor, runCli } from "@northbridge/cli";
import { beforeAll, expect, it } from "vitest";

const here = import.meta.dirname;

beforeAll(async () => {
  await import("./scripts/assemble.ts");
});

it("prints through its port and powers off", async () => {
  expect(existsSync(join(here, "generated", "guest.bin"))).toBe(true);
  const stdin = new PassThrough().end();
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const code = await runCli(["run", join(here, "machine.config.ts"), "--timeout", "60"], {
    stdin: stdin as unknown as NodeJS.ReadStream,
    stdout: stdout as unknown as NodeJS.WriteStream,
    stderr: stderr as unknown as NodeJS.WriteStream,
    registry: registryFor,
    hypervisor: builtInHypervisor,
  });
  stdout.end();
  stderr.end();
  expect(await text(stderr)).toBe("");
  expect(await text(stdout)).toBe("Hello from Northbridge\n");
  expect(code).toBe(0);
});
