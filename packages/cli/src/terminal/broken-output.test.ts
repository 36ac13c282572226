import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const main = fileURLToPath(new URL("../main.ts", import.meta.url));
const command = `"${process.execPath}" --conditions=northbridge-source "${main}" schema`;

it.each([
  ["nobody reads", `{ ${command}; echo $? >&2; } | true`, /^141\n$/],
  [
    "is on a full disk",
    `${command} > /dev/full; echo $? >&2`,
    /^northbridge: standard output: its disk is full\n1\n$/,
  ],
])("says by its exit code that output did not arrive which %s", (_what, line, expected) => {
  const { stderr } = spawnSync("sh", ["-c", line], { encoding: "utf8" });
  expect(stderr).toMatch(expected);
});
