import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, type TestContext } from "vitest";
import { hostFiles } from "../../src/guest/index.ts";
import { initrdWith, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const runFile = promisify(execFile);

/** Plain gcc does without a 32-bit library; the asm statements need EBP to be the frame's. */
const FLAGS =
  "-m32 -nostdlib -static -no-pie -fno-pic -ffreestanding -fno-stack-protector -fno-omit-frame-pointer";

/** The 32-bit program, and what it says on this host; skips where either cannot be had. */
async function hostsOwn(
  directory: string,
  context: TestContext,
): Promise<{ readonly path: string; readonly answer: string }> {
  const path = join(directory, "i386");
  const source = join(import.meta.dirname, "harness", "i386.c");
  const problem = (error: unknown): string => (error as Error).message.trim().split("\n").at(-1) ?? "";
  try {
    await runFile("gcc", [...FLAGS.split(" "), "-O1", "-o", path, source]);
  } catch (error) {
    context.skip(`this host's compiler makes no 32-bit programs: ${problem(error)}`);
  }
  try {
    return { path, answer: (await runFile(path)).stdout.trim() };
  } catch (error) {
    context.skip(`this host's kernel runs no 32-bit programs: ${problem(error)}`);
  }
}

describe.each([1, 2])("on %i vCPUs", (vcpus) => {
  it("a 32-bit program does under the 64-bit kernel what it does here", async (context) => {
    const guest = await stockGuest("cloud");
    if ("missing" in guest) throw new Error(guest.missing);
    await using directory = await scratch();
    const { path, answer } = await hostsOwn(directory.path, context);
    expect(answer.split("\n")).toHaveLength(18);
    const files = await initrdWith(
      guest.files,
      await hostFiles(path, "/opt/i386"),
      join(directory.path, "initrd.img"),
    );
    const file = await machineFile(directory.path, linuxConfig({ ...files, vcpus }));
    await using shell = await GuestShell.boot([file, "--timeout", "600"]);
    expect((await shell.ask("/opt/i386")).split("\n")).toEqual(answer.split("\n"));
    expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  });
});
