import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { hypervisorConformance } from "@northbridge/sdk/conformance";
import { afterAll, describe, expect, it } from "vitest";
import { kvmHypervisor, type KvmOptions, probeGuest } from "../src/index.ts";
import { bounded } from "./bounded.ts";
import { realtime } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

/**
 * Where KVM has no processor's help it emulates ring 0, and its emulator lacks instructions and delivers some events
 * late or not at all. Such a host is told by what a guest's instructions do. What the programs report there is
 * recorded, so that a change is seen; to record again, set NORTHBRIDGE_RECORD=1. An event that is late most of the
 * time may be in time once: what passes is right.
 */
const isEmulated = hasKvm && !(await probeGuest()).usable;
const GOLDEN = new URL("./golden/emulated-ring0.json", import.meta.url);
const isRecording = process.env["NORTHBRIDGE_RECORD"] === "1";
const recorded = new Map<string, string>(
  existsSync(GOLDEN) && !isRecording
    ? Object.entries(JSON.parse(readFileSync(GOLDEN, "utf8")) as Record<string, string>)
    : [],
);

/** What a program reported instead, without what follows from how it ended. */
const found = (message: string): string => /found (.*?)(?:; exits|$)/s.exec(message)?.[1] ?? message;

/** A case that is newer than the recording is judged elsewhere: here it passes, or is skipped with what it reported. */
async function asRecorded(
  name: string,
  body: () => Promise<void>,
  skip: (note: string) => void,
): Promise<void> {
  const message = await body().then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  if (isRecording) {
    if (message !== undefined) recorded.set(name, found(message));
    return;
  }
  const expected = recorded.get(name);
  if (expected === undefined) {
    if (message !== undefined) skip(`ring 0 is emulated here, and the case is not recorded: ${message}`);
  } else if (message !== undefined) expect(found(message)).toBe(expected);
}

/** @param only of the groups of cases; absent: all */
function judge(options: KvmOptions, only?: string): void {
  hypervisorConformance(
    {
      describe: (group, body) => {
        if (only === undefined || group === only) describe(group, body);
      },
      it: (name, body) => {
        it(name, ({ skip }) => (isEmulated ? asRecorded(name, body, skip) : body()));
      },
    },
    {
      createHypervisor: () => bounded(kvmHypervisor(options)),
      createClock: realtime,
      countsInstructions: false,
    },
  );
}

describe.skipIf(!hasKvm)("KVM backend", () => {
  judge({});
  afterAll(() => {
    if (isRecording) writeFileSync(GOLDEN, `${JSON.stringify(Object.fromEntries(recorded), undefined, 2)}\n`);
  });
});

describe.skipIf(!hasKvm)("KVM backend with a split irqchip", () => {
  judge({ irqchip: "split" }, "interrupts");
});
