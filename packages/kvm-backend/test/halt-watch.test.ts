import { afterEach, expect, it, vi } from "vitest";
import type { KvmVcpu } from "../src/vcpu/kvm-vcpu.ts";
import { HaltWatch } from "../src/vm/halt-watch.ts";

vi.mock("node:fs", () => ({ readFileSync: () => "1 (vcpu 0) S 0" }));
afterEach(() => {
  vi.useRealTimers();
});

it("all processors are out of the guest at one moment when they are found dead", () => {
  vi.useFakeTimers();
  const calls: string[] = [];
  const vcpu = (index: number, isDead: () => boolean): KvmVcpu =>
    ({
      tid: 1,
      isPending: true,
      nudge: () => calls.push(`${index} out`),
      isDead: () => {
        calls.push(`${index} asked`);
        return isDead();
      },
      declareDead: () => calls.push(`${index} dead`),
    }) as unknown as KvmVcpu;
  let isAwake = true;
  const watch = new HaltWatch([vcpu(0, () => true), vcpu(1, () => !isAwake)]);
  watch.pendingChanged();
  vi.advanceTimersToNextTimer();
  expect(calls.splice(0)).toEqual(["0 out", "1 out", "0 asked", "1 asked"]);
  isAwake = false;
  vi.advanceTimersToNextTimer();
  expect(calls).toEqual(["0 out", "1 out", "0 asked", "1 asked", "0 dead", "1 dead"]);
  watch.close();
});
