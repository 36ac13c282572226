import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { Failure } from "./failing.vcpu.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

const CHILD = fileURLToPath(new URL("exiting-machine.child.ts", import.meta.url));
/** IN AL, 0E0h; JMP to it. */
const READ = [0xe4, 0xe0, 0xeb, 0xfc];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

/** A guest whose first read ends the thread that it runs on. */
async function create(failure: number): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(READ);
  open.add(guest.vm);
  const shared = new SharedArrayBuffer(4);
  new Int32Array(shared)[0] = failure;
  const module = new URL("./failing.vcpu.ts", import.meta.url).href;
  guest.mapPorts(
    { base: 0xe0, length: 1 },
    { onVcpus: [{ offset: 0, length: 1, module, shared }], read: () => 0, write: () => undefined },
  );
  return guest;
}

describe.skipIf(!hasKvm)("a vCPU's thread that ends by itself", () => {
  it.for([
    [Failure.EXIT, "the vCPU's thread failed: it ended by itself, with code 0"],
    [Failure.THROW, "the vCPU's thread failed: a handler's bug"],
  ] as const)("ends the run, and the machine can be kicked and closed: %j", async ([failure, message]) => {
    const { vm, vcpu } = await create(failure);
    await expect(vcpu.run()).rejects.toThrow(message);
    vcpu.kick();
    await expect(vcpu.run()).rejects.toThrow(message);
    await vm.close();
  });

  it.for([Failure.EXIT, Failure.THROW])("does not hold up who waits for its guest: %j", async (failure) => {
    const { vcpu } = await create(failure);
    const run = vcpu.run();
    const failed = expect(run).rejects.toThrow(/^the vCPU's thread failed: /);
    for (let i = 0; i < 100; i++) vcpu.setDebug(undefined);
    await failed;
    vcpu.setDebug(undefined);
  });
});

describe.skipIf(!hasKvm)("a process that ends", () => {
  it.for([
    ["halt", "exit", 3],
    ["spin", "exit", 3],
    ["halt", "throw", 1],
  ] as const)("does not wait for its guest: %j", ([guestDoes, processDoes, code]) => {
    const { status, signal } = spawnSync(
      process.execPath,
      ["--conditions=northbridge-source", "--no-warnings", CHILD, guestDoes, processDoes],
      { timeout: 60_000, stdio: "ignore", killSignal: "SIGKILL" },
    );
    expect([status, signal]).toEqual([code, null]);
  });
});
