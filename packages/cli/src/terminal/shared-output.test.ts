import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { isSharedOutput } from "./shared-output.ts";

it("knows one destination behind two descriptors", () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-output-"));
  const [one, same, other] = ["a", "a", "b"].map((name) => openSync(join(directory, name), "a"));
  const nowhere = [openSync("/dev/null", "w"), openSync("/dev/null", "w")];
  try {
    expect(isSharedOutput({ fd: one }, { fd: same })).toBe(true);
    expect(isSharedOutput({ fd: one }, { fd: other })).toBe(false);
    expect(isSharedOutput({ fd: nowhere[0] }, { fd: nowhere[1] })).toBe(false);
    expect(isSharedOutput({ isTTY: true }, { isTTY: true })).toBe(true);
    expect(isSharedOutput({ isTTY: true }, {})).toBe(false);
  } finally {
    for (const fd of [one, same, other, ...nowhere]) if (fd !== undefined) closeSync(fd);
    rmSync(directory, { recursive: true });
  }
});
