import { readdirSync, readFileSync } from "node:fs";
import type * as threads from "node:worker_threads";
import { expect, it, vi } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { realtime } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

let made = 0;

vi.mock("node:worker_threads", async (original) => {
  const { Worker, ...rest } = await original<typeof threads>();
  /** The host has room for two. */
  class ScarceWorker extends Worker {
    constructor(...given: ConstructorParameters<typeof Worker>) {
      if (++made === 3) throw new Error("Worker initialization failure: EAGAIN");
      super(...given);
    }
  }
  return { ...rest, Worker: ScarceWorker };
});

const held = (): number[] => {
  const names = readdirSync("/proc/self/task").map((tid) => {
    try {
      return readFileSync(`/proc/self/task/${tid}/comm`, "latin1");
    } catch {
      return ""; // it has just ended
    }
  });
  return [names.filter((name) => name.startsWith("vcpu")).length, readdirSync("/proc/self/fd").length];
};

it.skipIf(!hasKvm)("a machine that cannot have all its threads leaves none of them", async () => {
  const bus = { read: () => 0, write: () => undefined };
  const before = held();
  const failing = kvmHypervisor().createVm({
    vcpus: 4,
    clock: realtime(),
    memoryBytes: 0,
    ports: bus,
    mmio: bus,
  });
  await expect(failing).rejects.toThrow("Worker initialization failure: EAGAIN");
  await expect.poll(held, { timeout: 20_000 }).toEqual(before);
});
