import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, PluginRegistry, VirtualClock } from "@northbridge/core";
import type { DrivenClock, Hypervisor, Vcpu, VirtualMachine } from "@northbridge/sdk";
import { softHypervisor } from "@northbridge/soft-backend";
import { describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { atHostTsc, realtime } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

const RAM = 0x10000;
const CODE = 0x1000;
/** Real mode: INC word [0x2000]; MOV AX, [0x2000]; OUT 0E0h, AX; JMP back. */
const PROGRAM = [0xff, 0x06, 0x00, 0x20, 0xa1, 0x00, 0x20, 0xe7, 0xe0, 0xeb, 0xf5];

class Counter {
  readonly vm: VirtualMachine;
  readonly ram: Uint8Array;
  readonly seen: number[];

  private constructor(vm: VirtualMachine, ram: Uint8Array, seen: number[]) {
    this.vm = vm;
    this.ram = ram;
    this.seen = seen;
  }

  /** A machine that kicks itself after every `stop` values. */
  static async create(hypervisor: Hypervisor, clock: DrivenClock, stop: number): Promise<Counter> {
    const seen: number[] = [];
    const vm: VirtualMachine = await hypervisor.createVm({
      vcpus: 1,
      clock,
      memoryBytes: RAM,
      ports: {
        read: () => 0xff,
        write: (_port, _width, value) => {
          seen.push(value);
          if (seen.length % stop === 0) vm.vcpus[0]!.kick();
        },
      },
      mmio: { read: () => 0xff, write: () => undefined },
    });
    const { bytes } = vm.addMemory({ name: "ram", gpa: 0, length: RAM });
    bytes.set(PROGRAM, CODE);
    vm.memoryWritten(0, RAM);
    vm.vcpus[0]!.reset();
    return new Counter(vm, bytes, seen);
  }

  get vcpu(): Vcpu {
    return this.vm.vcpus[0]!;
  }
}

describe.skipIf(!hasKvm)("a machine that moves between backends", () => {
  it("goes on under KVM from the software CPU's state, and back", async () => {
    const memory: Uint8Array[] = [];
    const machines = [
      await Counter.create(softHypervisor(), new VirtualClock(), 100),
      await Counter.create(kvmHypervisor(), realtime(), 100),
      await Counter.create(softHypervisor(), new VirtualClock(), 100),
    ];
    try {
      const [first] = machines;
      const start = await atHostTsc(first!.vcpu.getState());
      first!.vcpu.setState({
        ...start,
        regs: { ...start.regs, rip: BigInt(CODE), r15: 0x1234_5678_9abc_def0n },
        sregs: { ...start.sregs, cs: { ...start.sregs.cs, base: 0n, selector: 0 } },
      });
      for (const [i, machine] of machines.entries()) {
        const previous = machines[i - 1];
        if (previous !== undefined) {
          machine.ram.set(previous.ram);
          machine.vm.memoryWritten(0, RAM);
          machine.vm.irqchip.restore(structuredClone(previous.vm.irqchip.save()));
          machine.vcpu.setState(structuredClone(previous.vcpu.getState()));
        }
        expect(await machine.vcpu.run()).toEqual({ kind: "interrupted" });
        memory.push(machine.ram.slice(0x2000, 0x2002));
      }
      expect(machines.flatMap(({ seen }) => seen)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
      expect(machines[2]!.vcpu.getState().regs).toMatchObject({ rax: 300n, r15: 0x1234_5678_9abc_def0n });
      expect(memory.map(([low, high]) => low! | (high! << 8))).toEqual([100, 200, 300]);
    } finally {
      for (const { vm } of machines) await vm.close();
    }
  });

  it("is refused by name where it holds what the software CPU has not", async () => {
    const { vm, vcpu } = await Counter.create(softHypervisor(), new VirtualClock(), 100);
    try {
      const state = vcpu.getState();
      expect(() => {
        vcpu.setState({ ...state, xsave: Buffer.alloc(4096).toString("base64") });
      }).toThrow(/^vCPU 0\.xsave: .*no registers beyond x87 and SSE/);
      expect(() => {
        vcpu.setState({ ...state, events: { ...state.events, exception: { vector: 14, error: 2 } } });
      }).toThrow(/^vCPU 0\.events: .*vector 14 was being delivered/);
    } finally {
      await vm.close();
    }
  });

  it("is refused by the names of the features where the other processor lacks some", async () => {
    const directory = mkdtempSync(join(tmpdir(), "northbridge-features-"));
    const saved = join(directory, "saved");
    const image = join(directory, "spin");
    writeFileSync(image, Uint8Array.of(0xeb, 0xfe)); // JMP to itself
    const config = {
      machine: "bare",
      memory: { mib: 2 },
      boot: { flat: { image, gpa: 0x1000, mode: "long" as const } },
    };
    const registry = new PluginRegistry([], [{ name: "bare", devices: () => [] }]);
    const machines = await Promise.all([
      createMachine({ config, hypervisor: kvmHypervisor(), registry }),
      createMachine({ config, hypervisor: softHypervisor(), registry }),
    ]);
    try {
      await machines[0].start();
      await machines[0].save(saved);
      await expect(machines[1].restore(saved)).rejects.toThrow(
        /knows its processor as host; .*lacks .*\bvme\b/,
      );
    } finally {
      for (const machine of machines) await machine.stop();
      rmSync(directory, { recursive: true });
    }
  });
});
