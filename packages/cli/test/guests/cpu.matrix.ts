import { expect, it } from "vitest";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

/** Features as Linux itself names them, of a machine with that `cpu`. */
async function flags(cpu?: object): Promise<ReadonlySet<string>> {
  const guest = await stockGuest("cloud");
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const file = await machineFile(directory.path, linuxConfig({ ...guest.files, ...(cpu && { cpu }) }));
  await using shell = await GuestShell.boot([file, "--timeout", "600"]);
  const text = await shell.ask("grep -m1 ^flags /proc/cpuinfo");
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  return new Set(text.split(/\s+/).slice(2));
}

it("Linux sees the features that the config shows, by the same names, and none that it hides", async () => {
  const shown = ["aes", "pclmulqdq", "movbe", "xsave", "umip"];
  const hidden = ["popcnt", "sse4_2", "ssse3", "rdtscp", "fsrm", "tsc_adjust"];
  const usual = await flags();
  const changed = await flags({
    features: Object.fromEntries([
      ...shown.map((name) => [name, true] as const),
      ...hidden.map((name) => [name, false] as const),
    ]),
  });
  expect([...usual].filter((name) => !changed.has(name)).sort()).toEqual([...hidden].sort());
  expect([...changed].filter((name) => !usual.has(name)).sort()).toEqual([...shown].sort());
});
