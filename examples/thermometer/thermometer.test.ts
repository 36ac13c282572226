import { readFileSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor } from "@northbridge/cli";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { describeTrace, expectSameAsTrace, readTrace, recordedDevice } from "@northbridge/sdk/recording";
import { testBench } from "@northbridge/sdk/testing";
import { deviceMatchers } from "@northbridge/sdk/vitest";
import { describe, expect, it } from "vitest";
import { type Driver, noKvm, onBareMetal, places } from "./places.ts";
import { registers, thermometer } from "./thermometer.ts";

expect.extend(deviceMatchers);

async function expectAlarm(driver: Driver): Promise<void> {
  expect(await driver.read("STATUS")).toBe(0);
  await driver.write("LIMIT", 21_500);
  for (let seconds = 0; (await driver.read("STATUS")) === 0 && seconds < 60; seconds++)
    await driver.aSecond();
  expect(await driver.read("STATUS")).toBe(registers.masks.STATUS.ALARM);
  expect(await driver.read("TEMP")).toBeGreaterThanOrEqual(21_500);
  await driver.write("CTRL", 0);
  await driver.write("STATUS", registers.masks.STATUS.ALARM);
  await driver.aSecond();
  expect([await driver.read("STATUS"), await driver.read("CTRL")]).toEqual([0, 0]);
}

it.for(places)(
  "gets half a degree warmer every second in $name, and says when it is too warm",
  {
    timeout: 600_000,
  },
  async (place, context) => {
    const missing = await place.missing();
    if (missing !== undefined) return context.skip(missing);
    await using driver = await place.drive?.();
    expect(await driver?.read("LIMIT")).toBe(driver && 30_000);
    await driver?.write("LIMIT", 0xffff_ffff);
    const [first = 0, second = 0, ...more] = await place.temperatures(driver);
    expect(more).toEqual([]);
    expect(first).toBeGreaterThanOrEqual(20);
    expect(second).toBeGreaterThanOrEqual(first + 0.5);
    expect([(first * 2) % 1, (second * 2) % 1]).toEqual([0, 0]);
    if (driver !== undefined) await expectAlarm(driver);
  },
);

it.for(["soft", "kvm"] as const)(
  "is recorded on the backend %s, and replayed without one",
  async (name, context) => {
    const missing = name === "kvm" ? noKvm() : undefined;
    if (missing !== undefined) return context.skip(missing);
    const parts: Uint8Array[] = [];
    const recorded = recordedDevice(thermometer(), (bytes) => parts.push(bytes));
    const driver = await onBareMetal(await builtInHypervisor(name), recorded);
    await driver.write("CTRL", 3);
    await expectAlarm(driver);
    await driver[Symbol.asyncDispose]();
    const trace = Buffer.concat(parts);
    expect(describeTrace(readTrace(trace), registers).join("\n")).toMatch(
      /write LIMIT = 0x53fc[^]*irq 10 up[^]*read STATUS = 0x1 \{ ALARM \}/,
    );
    await expectSameAsTrace(trace, thermometer(), { registers });
  },
);

it("interrupts while the alarm stands", async () => {
  const bench = await testBench(thermometer(), { registers });
  bench.regs.LIMIT.write(21_500);
  bench.regs.CTRL.write({ ENABLE: 1, IRQ: 1 });
  expect(bench).not.toRaiseInterrupt(() => bench.clock.advance(2.9e9));
  expect(bench.regs.TEMP.read()).toBe(21_000);
  expect(bench).toRaiseInterrupt(() => bench.clock.advance(0.1e9), { gsi: 10 });
  expect(bench).toMatchTrace(
    () => bench.regs.STATUS.write({ ALARM: 1 }),
    ["write STATUS = 0x1 { ALARM }", "irq 10 down"],
  );
});

deviceConformance({ describe, it }, { create: () => thermometer(), registers, code: "thermometer()" });

it("is a device of fifty lines", () => {
  const code = readFileSync(join(import.meta.dirname, "thermometer.ts"), "utf8");
  const lines = code.split("\n").filter((line) => line.trim() !== "" && !/^\s*(\/\*|\*)/.test(line));
  expect(lines.length).toBeLessThanOrEqual(50);
});
