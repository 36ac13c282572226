import { spawnSync } from "node:child_process";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { bit, bits, cHeader, registerMap } from "../registers/index.ts";

const COMPILER = "cc";

const map = registerMap("16550-like", {
  CTRL: {
    offset: 0,
    description: "Control: /* not */ a comment \\",
    fields: { MODE: bits(1, 2, { values: { ONE: 1, "2-shot": 2 } }), TOP: bit(31) },
  },
  CTRL_MODE: { offset: 4 },
  LIMIT: { offset: 16, count: 3, stride: 8 },
});

/** What the header says, by the map above. */
const CHECKS = `
_Static_assert(_16550_LIKE_CTRL == 0, "");
_Static_assert(_16550_LIKE_CTRL_MODE == 4, "");
_Static_assert(_16550_LIKE_CTRL_MODE_MASK == 6u, "");
_Static_assert(_16550_LIKE_CTRL_MODE_SHIFT == 1, "");
_Static_assert(_16550_LIKE_CTRL_MODE_2_shot == 4u, "");
_Static_assert(_16550_LIKE_CTRL_TOP == 0x80000000u, "");
_Static_assert(_16550_LIKE_LIMIT(2) == 32, "");
_Static_assert(_16550_LIKE_LIMIT_COUNT == 3, "");
`;

it("gives a C compiler a header without a warning, that says what the map does", async (context) => {
  if (spawnSync(COMPILER, ["--version"]).error !== undefined) return context.skip(`no ${COMPILER}`);
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-header-"));
  await writeFile(join(directory.path, "regs.h"), cHeader(map));
  const source = `#include "regs.h"\n#include "regs.h"\n${CHECKS}`;
  await writeFile(join(directory.path, "driver.c"), source);
  const { stderr, status } = spawnSync(COMPILER, ["-Wall", "-Wextra", "-Werror", "-c", "driver.c"], {
    cwd: directory.path,
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
});

it("refuses, by both names, what would be one macro", () => {
  const clash = registerMap("clash", {
    CTRL: { offset: 0, fields: { MODE: bits(0, 2, { values: { MASK: 1 } }) } },
    CTRL_MODE: { offset: 4 },
  });
  expect(() => cHeader(clash)).toThrow(
    "clash: CTRL.MODE = MASK and CTRL.MODE would both be CLASH_CTRL_MODE_MASK in C; rename one of them",
  );
});
