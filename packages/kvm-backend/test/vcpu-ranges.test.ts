import type { IoHandler, VcpuRange, VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { Exit, Run } from "../src/abi/spec.ts";
import { VcpuRanges } from "../src/vcpu/vcpu-ranges.ts";
import { Shared } from "./hot-counter.vcpu.ts";
import { RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

/** OUT 0E0h, AX with 1 in it; IN AX, 0E4h; MOV [2000h], AX; JMP to the first. */
const PORTS = [0xb8, 0x01, 0x00, 0xe7, 0xe0, 0xe5, 0xe4, 0xa3, 0x00, 0x20, 0xeb, 0xf4];
/** The same at ES:[0] and ES:[4]. */
const MMIO = [
  ...[0xb8, 0x01, 0x00, 0x26, 0xa3, 0x00, 0x00],
  ...[0x26, 0xa1, 0x04, 0x00, 0xa3, 0x00, 0x20, 0xeb, 0xf0],
];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

const words = (limit: number): Int32Array<SharedArrayBuffer> => {
  const all = new Int32Array(new SharedArrayBuffer(16));
  all[Shared.LIMIT] = limit;
  return all;
};
const onVcpus = (shared: SharedArrayBuffer, module = "./hot-counter.vcpu.ts"): readonly VcpuRange[] => [
  { offset: 0, length: 8, module: new URL(module, import.meta.url).href, shared },
];

async function create(code: readonly number[], vcpus = 1): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code, { vcpus });
  open.add(guest.vm);
  return guest;
}

describe.skipIf(!hasKvm)("registers answered on the vCPU's thread", () => {
  it.for(["ports", "mmio"] as const)("never reach the machine thread: %s", async (space) => {
    const shared = words(500);
    const guest = await create(space === "ports" ? PORTS : MMIO);
    const seen: number[] = [];
    const device: IoHandler = {
      onVcpus: onVcpus(shared.buffer),
      read: () => 0,
      write: (offset) => {
        seen.push(offset);
        guest.vcpu.kick();
      },
    };
    if (space === "ports") guest.mapPorts({ base: 0xe0, length: 8 }, device);
    else guest.mapMmio(device);
    expect(await guest.vcpu.run()).toEqual({ kind: "interrupted" });
    expect(seen).toEqual([0]);
    expect(shared[Shared.SUM]).toBe(500);
    expect(guest.word(0x2000)).toBe(500);
    const stats = guest.vm.stats();
    expect(stats).toMatchObject({ answeredOnVcpus: 1000 });
    expect(stats["portWrites"]! + stats["mmioWrites"]! + stats["portReads"]! + stats["mmioReads"]!).toBe(1);
  });

  it("share one state between processors, and are kicked like any", async () => {
    const shared = words(2 ** 31 - 1);
    const guest = await create(PORTS, 2);
    guest.mapPorts(
      { base: 0xe0, length: 8 },
      { onVcpus: onVcpus(shared.buffer), read: () => 0, write: () => undefined },
    );
    const runs = guest.vm.vcpus.map((vcpu) => vcpu.run());
    while (Atomics.load(shared, Shared.SUM) < 300) await new Promise((resolve) => setImmediate(resolve));
    for (const vcpu of guest.vm.vcpus) vcpu.kick();
    for (const exit of await Promise.all(runs)) expect(exit).toEqual({ kind: "interrupted" });
    expect(shared[Shared.CREATED]).toBe(2);
    const sum = shared[Shared.SUM]!;
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(shared[Shared.SUM]).toBe(sum);
  });

  it("are the machine thread's again when they are unmapped", async () => {
    const shared = words(2 ** 31 - 1);
    const guest = await create(PORTS);
    const region = { base: 0xe0, length: 8 };
    const unmap = guest.mapPorts(region, {
      onVcpus: onVcpus(shared.buffer),
      read: () => 0,
      write: () => undefined,
    });
    const run = guest.vcpu.run();
    while (Atomics.load(shared, Shared.SUM) < 10) await new Promise((resolve) => setImmediate(resolve));
    unmap();
    let writes = 0;
    guest.mapPorts(region, {
      read: () => 7,
      write: () => {
        if (++writes === 10) guest.vcpu.kick();
      },
    });
    await run;
    const sum = shared[Shared.SUM];
    expect(writes).toBe(10);
    expect(shared[Shared.SUM]).toBe(sum);
  });

  it("end the run where the module cannot be loaded", async () => {
    const guest = await create(PORTS);
    guest.mapPorts(
      { base: 0xe0, length: 8 },
      { onVcpus: onVcpus(words(1).buffer, "./absent.ts"), read: () => 0, write: () => undefined },
    );
    await expect(guest.vcpu.run()).rejects.toThrow(/vCPU's thread failed: .*absent/);
  });
});

it("a part of an access across the end of a page, of three bytes, is the machine thread's", () => {
  const run = new DataView(new SharedArrayBuffer(4096));
  const ranges = new VcpuRanges(run);
  const gate = new SharedArrayBuffer(4);
  new Int32Array(gate)[0] = 1;
  const shared = words(1000);
  const { module } = onVcpus(shared.buffer)[0]!;
  ranges.add({ kind: "range", space: "mmio", base: 0x20000, length: 8, module, shared: shared.buffer, gate });
  run.setUint32(Run.EXIT_REASON, Exit.MMIO, true);
  run.setUint32(Run.MMIO_ADDRESS, 0x20000, true);
  run.setUint32(Run.MMIO_DATA, 0x0100_0001, true);
  run.setUint8(Run.MMIO_IS_WRITE, 1);
  for (const [length, isAnswered] of [
    [3, false],
    [4, true],
    [8, false],
  ] as const) {
    run.setUint32(Run.MMIO_LENGTH, length, true);
    expect(ranges.answer()).toBe(isAnswered);
  }
});
