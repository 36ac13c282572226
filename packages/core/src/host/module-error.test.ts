import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { moduleErrorReason, placeOf } from "./module-error.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-module-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

it("says what is not there", async () => {
  const file = join(directory, "device.mjs");
  const missing = async (what: string): Promise<string> => {
    await writeFile(file, "");
    return moduleErrorReason(new Error(what), file);
  };
  expect(moduleErrorReason(new Error(`Cannot find module '${file}' imported from /x.js`), file)).toBe(
    "there is no such file or directory",
  );
  expect(await missing("Cannot find package 'valibot' imported from /x.js")).toBe(
    "it imports valibot, which is not there",
  );
  expect(await missing(`Cannot find module 'file://${directory}/other.mjs' imported from /x.js`)).toBe(
    `it imports ${directory}/other.mjs, which is not there`,
  );
});

it("says where a module fails", async () => {
  const file = join(directory, "device.mjs");
  await writeFile(file, "const a = 1;\n\nthrow new TypeError('no such register');\n");
  const error: unknown = await import(/* @vite-ignore */ `${pathToFileURL(file).href}?version=2`).catch(
    (reason: unknown) => reason,
  );
  expect(moduleErrorReason(error, file)).toBe(`no such register (${file}:3)`);
  // As Node prints a mistake of syntax.
  expect(
    placeOf(`file://${file}?version=3:7\nconst a b;\n      ^\n\nSyntaxError: Unexpected identifier`),
  ).toBe(`${file}:7`);
  expect(placeOf("Error: x\n    at f (/home/x/node_modules/y/z.js:3:4)")).toBeUndefined();
  expect(moduleErrorReason("odd", file)).toBe("odd");
});
