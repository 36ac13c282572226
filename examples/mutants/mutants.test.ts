import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { DevicePlugin, RegisterMap, RegisterSpecs } from "@northbridge/sdk";
import { inProcessTarget, virtioConformance } from "@northbridge/sdk/conformance";
import { deviceConformance, type DeviceUnderTest, fuzzCampaign } from "@northbridge/sdk/fuzz";
import { FakeClock } from "@northbridge/sdk/testing";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import { describe, expect, it } from "vitest";
import { BUGGY, type Bug, type BuggyDevice } from "./bugs.ts";
import { counter, registers } from "./counter.ts";

deviceConformance({ describe, it }, { create: () => counter(), registers, code: "counter()" });

const BUDGET_MS = 10_000;
/** Of this process: on a host that others use too, the clock says nothing of the work done. */
const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const TURNS = 600;
const wanted = process.env["NORTHBRIDGE_MUTANTS"];
const isWhole = wanted !== undefined;
/** In CI every eighth bug, each with a fixed number of rounds at most; with NORTHBRIDGE_MUTANTS all, or those of a name. */
const chosen = BUGGY.flatMap((device) => device.bugs.map((bug) => ({ device, bug }))).filter(
  ({ device, bug }, index) =>
    wanted === undefined
      ? index % 8 === 0
      : wanted === "all" || `${device.plugin} ${bug.name}`.includes(wanted),
);

interface Exports {
  readonly [name: string]: unknown;
  readonly registers?: RegisterMap<RegisterSpecs>;
}

interface Mutant extends DeviceUnderTest {
  /** Without its transport, where it is virtio's. */
  readonly virtio?: () => VirtioDevice;
}

/** The device with the bug in it, from a module beside the original: it imports what that imports. */
async function load(device: BuggyDevice, bug: Bug): Promise<Mutant> {
  const source = join(import.meta.dirname, device.source);
  const text = await readFile(source, "utf8");
  const count = text.split(bug.from).length - 1;
  if (count === 0) throw new Error(`${device.source} has no ${bug.from}`);
  const at = text.lastIndexOf(bug.from);
  const mutated = text.slice(0, at) + bug.to + text.slice(at + bug.from.length);
  // One directory further down.
  const moved = mutated.replaceAll('from "./', 'from "../');
  const directory = await mkdtemp(join(dirname(source), ".mutant-"));
  try {
    const file = join(directory, basename(source));
    await writeFile(file, moved);
    const exported = (await import(/* @vite-ignore */ file)) as Exports;
    const plugin = exported[device.plugin] as DevicePlugin<object>;
    const { prepare, checker } = device;
    const make = exported[device.virtio ?? ""] as ((...args: readonly unknown[]) => VirtioDevice) | undefined;
    return {
      create: () => plugin(),
      ...(exported.registers && { registers: exported.registers }),
      ...(prepare && { prepare }),
      ...(checker && { checker }),
      ...(make && { virtio: () => make(new FakeClock(), 20) }),
    };
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The first clause of virtio's specification that it does not keep. */
async function brokenClause(create: () => VirtioDevice): Promise<string | undefined> {
  const clauses: { readonly name: string; readonly body: () => Promise<void> }[] = [];
  const hooks = {
    describe: (_name: string, body: () => void): void => {
      body();
    },
    it: (name: string, body: (context: { readonly skip: () => void }) => Promise<void>): void => {
      clauses.push({ name, body: () => body({ skip: () => undefined }) });
    },
  };
  const target = () => Promise.resolve(inProcessTarget(create()));
  virtioConformance(hooks, { deviceId: create().deviceId, create: target });
  for (const { name, body } of clauses) {
    try {
      await body();
    } catch {
      return name;
    }
  }
  return undefined;
}

/** What the suites say of it within the budget. */
async function verdict(
  device: BuggyDevice,
  bug: Bug,
): Promise<{ readonly law: string | undefined; readonly ms: number }> {
  const subject = await load(device, bug);
  const started = cpuMs();
  const clause = subject.virtio && (await brokenClause(subject.virtio));
  if (clause !== undefined) return { law: clause, ms: cpuMs() - started };
  // In CI a number of rounds stands for the time, so that a loaded host catches as much as an idle one.
  let turns = 0;
  const { found } = await fuzzCampaign(subject, {
    now: isWhole ? cpuMs : () => (turns++ * BUDGET_MS) / TURNS,
    budgetMs: BUDGET_MS,
    seed: 1,
  });
  return { law: found?.law.name, ms: cpuMs() - started };
}

describe("planted bugs", () => {
  it("are caught within ten seconds each", { timeout: 60_000 * chosen.length }, async () => {
    const missed: string[] = [];
    const lines: string[] = [];
    for (const { device, bug } of chosen) {
      const name = `${device.plugin} ${bug.name}`;
      const { law, ms } = await verdict(device, bug);
      lines.push(`${name}: ${law ?? "MISSED"}, ${ms.toFixed(0)} ms`);
      if (law === undefined) missed.push(name);
    }
    const caught = chosen.length - missed.length;
    if (isWhole) console.log(`${lines.join("\n")}\n${caught} of ${chosen.length} caught`);
    expect(caught / chosen.length, `missed: ${missed.join(", ")}`).toBeGreaterThanOrEqual(0.95);
  });
});
