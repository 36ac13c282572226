import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inProcessTarget, virtioConformance } from "@northbridge/sdk/conformance";
import { fuzzVirtioDevice } from "@northbridge/sdk/fuzz";
import { FakeClock } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { places } from "./places.ts";
import { thermometer, virtioThermo } from "./virtio-thermo.ts";

describe.each(places)("in $name", (place) => {
  it("gets half a degree warmer every second", { timeout: 600_000 }, async (context) => {
    const missing = await place.missing();
    if (missing !== undefined) return context.skip(missing);
    const [first = 0, second = 0, ...more] = (await place.temperatures()).map(Number);
    expect(more).toEqual([]);
    expect(first).toBeGreaterThanOrEqual(20);
    expect(second).toBeGreaterThanOrEqual(first + 0.5);
    expect([(first * 2) % 1, (second * 2) % 1]).toEqual([0, 0]);
  });
});

virtioConformance(
  { describe, it },
  { deviceId: 2, create: () => Promise.resolve(inProcessTarget(thermometer(new FakeClock(), 20))) },
);

it("survives hostile drivers", () =>
  fuzzVirtioDevice({ create: () => virtioThermo(), code: "virtioThermo()" }, { runs: 40 }));

it("is a device of fifty lines", () => {
  const code = readFileSync(join(import.meta.dirname, "virtio-thermo.ts"), "utf8");
  const lines = code.split("\n").filter((line) => line.trim() !== "" && !/^\s*(\/\*|\*)/.test(line));
  expect(lines.length).toBeLessThanOrEqual(50);
});
