import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { hasQemu, scratchDirectory } from "../testing/img-tools.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const directory = join(scratchDirectory(), "full");
mkdirSync(directory);

/** Runs what follows in a mount namespace of its own. */
const WITHIN = { tool: "unshare", options: ["-m"] } as const;

/** Runs a script in a mount namespace where the directory is a file system of 4 MiB. `img` is one of the tools. */
function onSmallDisk(tool: readonly string[], script: string): string {
  const setUp = `mount -t tmpfs -o size=4m tmpfs "$0" && cd "$0"`;
  const words = tool.map((word) => `'${word}'`).join(" ");
  const whole = `${setUp}; img() { ${words} "$@" >/dev/null 2>&1; echo "exit $?"; }; ${script}`;
  const { stdout, stderr } = spawnSync(WITHIN.tool, [...WITHIN.options, "sh", "-c", whole, directory], {
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  return stdout + stderr;
}

const mayMount =
  spawnSync(WITHIN.tool, [...WITHIN.options, "mount", "-t", "tmpfs", "tmpfs", directory]).status === 0;
const reason = !hasQemu ? "there is no qemu-img" : mayMount ? undefined : "this user may not mount a tmpfs";
if (reason !== undefined) process.stderr.write(`cli: images on full disks are skipped: ${reason}\n`);

describe.skipIf(reason !== undefined)("a full disk, beside qemu-img", () => {
  it.each([
    [
      "a resize that has no room changes nothing that shows",
      "exit 0\nexit 1\n1048576\n",
      `img create -f qcow2 a 1M; img resize -f qcow2 --preallocation=full a 16M;
       qemu-img info --output=json a | sed -n 's/.*"virtual-size": \\([0-9]*\\).*/\\1/p' | tail -1;
       qemu-img check -q -f qcow2 a`,
    ],
    [
      "a raw image keeps its length",
      "exit 0\nexit 1\n1048576\n",
      "img create -f raw a 1M; img resize -f raw --preallocation=full a 16M; stat -c %s a",
    ],
    [
      "an image that has no room is not made",
      "exit 1\nexit 1\nexit 1\n0\n",
      `img create -f qcow2 -o preallocation=full a 16M; img create -f raw -o preallocation=falloc b 16M;
       head -c 8M /dev/zero >filler 2>/dev/null; img create -f qcow2 c 1M; ls | grep -vc filler`,
    ],
  ])("%s", (what, expected, script) => {
    expect(onSmallDisk([process.execPath, "--conditions=northbridge-source", MAIN, "img"], script)).toBe(
      expected,
    );
    // Of some images qemu-img leaves a beginning behind.
    const theirs = onSmallDisk(["qemu-img"], script);
    expect(what.includes("not made") ? theirs.replace(/\d+\n$/, "0\n") : theirs).toBe(expected);
  });
});
