import type { DrivenClock, KvmSegment, Vcpu, VcpuState, VirtualMachine, VmExit } from "@northbridge/sdk";
import { kvmHypervisor } from "../hypervisor.ts";
import { type KvmFinding, probeKvm } from "./probe.ts";

/** What KVM makes of instructions that every stock kernel executes in ring 0. */
export interface GuestProbe {
  /** Whether all of them worked. */
  readonly usable: boolean;
  readonly findings: readonly KvmFinding[];
}

/** Instructions that hardware executes and that KVM's own emulator lacks, with what to call them. */
const INSTRUCTIONS: readonly (readonly [string, readonly number[]])[] = [
  ["POPCNT", [0xf3, 0x0f, 0xb8, 0xc0]],
  ["SSE (XORPS)", [0x0f, 0x57, 0xc0]],
  ["x87 (FNINIT, FWAIT)", [0xdb, 0xe3, 0x9b]],
  ["INT3", [0xcc]],
];

const DONE_PORT = 0xe6;
/** OUT 0E6h, AL; then JMP to itself. */
const DONE = [0xe6, DONE_PORT, 0xeb, 0xfe];
/** An instruction takes microseconds; an overloaded host is forgiven a lot. */
const PATIENCE_MS = 2000;

const RAM = 0x10000;
const PML4 = 0x1000;
const PDPT = 0x2000;
const PD = 0x3000;
const IDT = 0x4000;
const GDT = 0x5000;
const HANDLER = 0x6000;
const CODE = 0x7000;
const STACK = 0x9000;
const CODE_SELECTOR = 8;

/**
 * Lets a tiny guest in 64-bit mode execute one instruction after the other. A KVM that opens may still be unable to
 * run a kernel: without a processor's help it emulates ring 0, and lacks much. Bounded in time; never throws.
 */
export async function probeGuest(): Promise<GuestProbe> {
  const { usable, findings } = probeKvm();
  if (!usable) return { usable, findings };
  const program = { writes: 0 };
  let vm: VirtualMachine | undefined;
  try {
    vm = await kvmHypervisor().createVm({
      vcpus: 1,
      clock: noClock,
      memoryBytes: RAM,
      ports: {
        read: () => 0xff,
        write: (port) => {
          if (port === DONE_PORT) program.writes++;
          vm?.vcpus[0]?.kick();
        },
      },
      mmio: { read: () => 0xff, write: () => undefined },
    });
    const ram = vm.addMemory({ name: "probe", gpa: 0, length: RAM });
    const vcpu = vm.vcpus[0] as Vcpu;
    writeTables(ram.bytes);
    const start = longMode(vcpu.getState());
    const results: KvmFinding[] = [];
    for (const [what, bytes] of INSTRUCTIONS) {
      ram.bytes.set([...bytes, ...DONE], CODE);
      vcpu.setState(start);
      program.writes = 0;
      const exit = await runBriefly(vcpu);
      results.push({
        what,
        ok: program.writes > 0,
        detail: program.writes > 0 ? "works in ring 0" : failure(exit),
      });
    }
    return { usable: results.every(({ ok }) => ok), findings: results };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { usable: false, findings: [{ what: "a guest", ok: false, detail }] };
  } finally {
    await vm?.close();
  }
}

async function runBriefly(vcpu: Vcpu): Promise<VmExit> {
  const timer = setTimeout(() => {
    vcpu.kick();
  }, PATIENCE_MS);
  try {
    return await vcpu.run();
  } finally {
    clearTimeout(timer);
  }
}

const failure = (exit: VmExit): string =>
  exit.kind === "error" || exit.kind === "shutdown" ? exit.detail : `ended with ${exit.kind}`;

const noClock: DrivenClock = {
  kind: "realtime",
  epochMs: 0,
  nowNs: () => 0,
  createTimer: () => ({ arm: () => undefined, disarm: () => undefined, deadlineNs: undefined }),
  nextDeadlineNs: () => Infinity,
  onSooner: () => undefined,
  runDue: () => undefined,
  follow: () => undefined,
  skipTo: () => undefined,
  startAt: () => undefined,
  pause: () => undefined,
  resume: () => undefined,
};

/** Identity mapping of the first 2 MiB, one code segment, and a handler of #BP that ends the program. */
function writeTables(ram: Uint8Array): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setUint32(PML4, PDPT | 3, true);
  view.setUint32(PDPT, PD | 3, true);
  view.setUint32(PD, 0x83, true);
  view.setBigUint64(GDT + CODE_SELECTOR, 0x00af9b000000ffffn, true);
  view.setUint16(IDT + 16 * 3, HANDLER, true);
  view.setUint16(IDT + 16 * 3 + 2, CODE_SELECTOR, true);
  view.setUint16(IDT + 16 * 3 + 4, 0x8e00, true);
  ram.set(DONE, HANDLER);
}

/** 64-bit mode at CPL 0, with x87 and SSE on (SDM 3A §10.8.5). */
function longMode(from: VcpuState): VcpuState {
  const segment = (selector: number, type: number, l: boolean): KvmSegment => ({
    base: 0n,
    limit: 0xffffffff,
    selector,
    type,
    present: true,
    dpl: 0,
    db: !l,
    s: true,
    l,
    g: true,
    avl: false,
    unusable: false,
  });
  const data = segment(0, 3, false);
  const { sregs } = from;
  return {
    ...from,
    regs: { ...from.regs, rip: BigInt(CODE), rsp: BigInt(STACK), rflags: 2n },
    sregs: {
      ...sregs,
      cs: segment(CODE_SELECTOR, 11, true),
      ds: data,
      es: data,
      fs: data,
      gs: data,
      ss: data,
      tr: { ...sregs.tr, type: 11, present: true, limit: 0x67 },
      gdt: { base: BigInt(GDT), limit: 0xf },
      idt: { base: BigInt(IDT), limit: 0xfff },
      cr0: 0x80000033n,
      cr3: BigInt(PML4),
      cr4: 0x620n,
      efer: 0x500n,
    },
  };
}
