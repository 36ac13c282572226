import { VirtualClock } from "@northbridge/core";
import type { Hypervisor, VcpuState, VirtualMachine, VmExit } from "@northbridge/sdk";
import { softHypervisor } from "@northbridge/soft-backend";
import { describe, expect, it } from "vitest";
import { kvmHypervisor } from "../src/index.ts";
import { realtime } from "./host-time.ts";
import { hasKvm } from "./usable-kvm.ts";

/** Rounds of run, stop and move; `NORTHBRIDGE_SOAK_SECONDS` goes on for so long instead. */
const ROUNDS = 25;
const SECONDS = Number(process.env["NORTHBRIDGE_SOAK_SECONDS"] ?? 0);

const RAM = 0x10000;
const SHARED = 0x2000;
const own = (vcpu: number): number => SHARED + 4 + 4 * vcpu;
const codeOf = (vcpu: number): number => 0x1000 + 0x40 * vcpu;
const PORT = 0xe0;
/** Where the three instructions of the loop begin. */
const Step = { LOCK_INC: 0, INC: 6, OUT: 11, JMP: 13 } as const;

/** Real mode: LOCK INC dword [shared]; INC dword [own]; OUT 0E0h, AL; JMP to the first. */
const program = (vcpu: number): number[] => [
  ...[0x66, 0xf0, 0xff, 0x06, SHARED & 0xff, SHARED >> 8],
  ...[0x66, 0xff, 0x06, own(vcpu) & 0xff, own(vcpu) >> 8],
  ...[0xe6, PORT, 0xeb, 0xf1],
];

/** Numbers that repeat from run to run (Marsaglia's xorshift32). */
function* random(seed: number): Generator<number, never> {
  for (let x = seed; ; ) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield (x >>> 0) / 2 ** 32;
  }
}

interface Saved {
  readonly vcpus: readonly VcpuState[];
  readonly ram: Uint8Array;
  readonly irqchip: unknown;
}

/** A machine whose processors all count. */
class Counters {
  readonly vm: VirtualMachine;
  readonly #ram: Uint8Array;

  private constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.#ram = vm.addMemory({ name: "ram", gpa: 0, length: RAM }).bytes;
  }

  static async create(hypervisor: Hypervisor, vcpus: number, outs: number[]): Promise<Counters> {
    const vm = await hypervisor.createVm({
      vcpus,
      clock: hypervisor.name === "kvm" ? realtime() : new VirtualClock(),
      memoryBytes: RAM,
      ports: {
        read: () => 0xff,
        write: (_port, _width, value) => {
          outs[value] = (outs[value] ?? 0) + 1;
        },
      },
      mmio: { read: () => 0xff, write: () => undefined },
    });
    return new Counters(vm);
  }

  start(): void {
    this.vm.vcpus.forEach((vcpu, i) => {
      this.#ram.set(program(i), codeOf(i));
      vcpu.reset();
      const state = vcpu.getState();
      const real = { base: 0n, selector: 0 };
      vcpu.setState({
        ...state,
        mpState: "runnable",
        regs: { ...state.regs, rip: BigInt(codeOf(i)), rax: BigInt(i) },
        sregs: { ...state.sregs, cs: { ...state.sregs.cs, ...real }, ds: { ...state.sregs.ds, ...real } },
      });
    });
    this.vm.memoryWritten(0, RAM);
  }

  save(): Saved {
    return structuredClone({
      vcpus: this.vm.vcpus.map((vcpu) => vcpu.getState()),
      ram: this.#ram.slice(),
      irqchip: this.vm.irqchip.save(),
    });
  }

  load({ vcpus, ram, irqchip }: Saved): void {
    this.#ram.set(ram);
    this.vm.memoryWritten(0, RAM);
    this.vm.irqchip.restore(irqchip);
    this.vm.vcpus.forEach((vcpu, i) => {
      vcpu.setState(vcpus[i]!);
    });
  }
}

/** What each processor counted, judged against the sum that all kept and what the port saw. */
function judge({ vcpus, ram }: Saved, outs: readonly number[]): number[] {
  const memory = new DataView(ram.buffer, ram.byteOffset);
  const counted = vcpus.map((_, i) => memory.getUint32(own(i), true));
  const steps = vcpus.map(({ regs }, i) => Number(regs.rip) - codeOf(i));
  for (const step of steps) expect(Object.values(Step)).toContain(step);
  const ahead = steps.filter((step) => step === Step.INC).length;
  expect(memory.getUint32(SHARED, true)).toBe(counted.reduce((sum, count) => sum + count, ahead));
  expect(vcpus.map((_, i) => outs[i] ?? 0)).toEqual(
    counted.map((count, i) => count - (steps[i] === Step.OUT ? 1 : 0)),
  );
  return counted;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(!hasKvm)("processors that are stopped and moved at random", () => {
  it.for([1, 2, 4])("lose nothing: %i of them", { timeout: 0 }, async (vcpus) => {
    const chance = random(0x1234_5678 + vcpus);
    const outs: number[] = [];
    const hypervisors = [kvmHypervisor(), softHypervisor()];
    let machine = await Counters.create(hypervisors[0]!, vcpus, outs);
    machine.start();
    let before = new Array<number>(vcpus).fill(0);
    const until = performance.now() + 1000 * SECONDS;
    try {
      for (let round = 0; SECONDS > 0 ? performance.now() < until : round < ROUNDS; round++) {
        const runs = machine.vm.vcpus.map((vcpu) => vcpu.run());
        await pause(4 * chance.next().value);
        // Some are kicked more than once, some are kicked and run again before the others stop.
        const order = machine.vm.vcpus.map((vcpu, i) => ({ vcpu, i, at: chance.next().value }));
        order.sort((a, b) => a.at - b.at);
        const exits: VmExit[] = [];
        for (const { vcpu, i, at } of order) {
          vcpu.kick();
          if (at < 0.3) vcpu.kick();
          exits.push(await runs[i]!);
          if (at > 0.8) {
            const again = vcpu.run();
            vcpu.kick();
            exits.push(await again);
          }
        }
        for (const exit of exits) expect(exit).toEqual({ kind: "interrupted" });
        const saved = machine.save();
        const counted = judge(saved, outs);
        counted.forEach((count, i) => {
          expect(count).toBeGreaterThanOrEqual(before[i]!);
        });
        before = counted;
        if (chance.next().value < 0.4) {
          const next = hypervisors[Math.floor(2 * chance.next().value)]!;
          await machine.vm.close();
          machine = await Counters.create(next, vcpus, outs);
          machine.load(saved);
        }
      }
      expect(Math.min(...before)).toBeGreaterThan(0);
    } finally {
      await machine.vm.close();
    }
  });

  it("are their own machine's", async () => {
    const outs: readonly number[][] = [[], []];
    const pair = [
      await Counters.create(kvmHypervisor(), 2, outs[0]!),
      await Counters.create(kvmHypervisor(), 2, outs[1]!),
    ];
    try {
      for (const machine of pair) machine.start();
      const runs = pair.map(({ vm }) => vm.vcpus.map((vcpu) => vcpu.run()));
      while (outs.some((each) => each.length < 2)) await pause(1);
      for (const vcpu of pair[0]!.vm.vcpus) vcpu.kick();
      await Promise.all(runs[0]!);
      const first = pair[0]!.save();
      const seen = [...outs[1]!];
      // The second goes on while the first stands still, and after it is gone.
      while ((outs[1]![0] ?? 0) < seen[0]! + 50) await pause(1);
      expect(pair[0]!.save().ram).toEqual(first.ram);
      await pair[0]!.vm.close();
      const later = outs[1]![0]!;
      while ((outs[1]![0] ?? 0) < later + 50) await pause(1);
      for (const vcpu of pair[1]!.vm.vcpus) vcpu.kick();
      await Promise.all(runs[1]!);
      judge(first, outs[0]!);
      judge(pair[1]!.save(), outs[1]!);
    } finally {
      for (const { vm } of pair) await vm.close();
    }
  });
});
