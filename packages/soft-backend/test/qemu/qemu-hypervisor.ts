import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type {
  Hypervisor,
  IoWidth,
  MemorySlot,
  Vcpu,
  VcpuState,
  VirtualMachine,
  VmExit,
  VmOptions,
} from "@northbridge/sdk";
import {
  addressOf,
  al,
  Assembler,
  ax,
  cr,
  ds,
  eax,
  ecx,
  edi,
  es,
  esi,
  mem,
  rax,
  rsp,
  ss,
} from "@northbridge/sdk/asm";

/** Where the loader puts the image; the stub in its first page moves the rest to 0. */
const LOAD = 0x100_0000;
export const STUB = 0x1000;
const OUT =
  /memory_region_ops_write cpu \d+ mr \S+ addr (0x[0-9a-f]+) value (0x[0-9a-f]+) size (\d) name 'io'/;

/**
 * Multiboot 1 entry (32-bit protected mode) that brings the processor to the long-mode state of the conformance
 * suite: its tables, its selectors, RIP and RSP as asked.
 */
export function stub(state: VcpuState, ramBytes: number): Uint8Array {
  const { regs, sregs } = state;
  const a = new Assembler({ origin: LOAD, bits: 32 });
  const flags = 0x10000;
  a.u32(0x1badb002, flags, -(0x1badb002 + flags) >>> 0, LOAD, LOAD, 0, 0, addressOf("entry"));
  a.label("gdtr");
  a.u16(sregs.gdt.limit);
  a.u32(Number(sregs.gdt.base));
  a.label("idtr");
  a.u16(sregs.idt.limit);
  a.u64(sregs.idt.base);
  a.label("entry");
  a.op("cld");
  // The firmware's timer interrupts are none of the programs' business.
  a.mov(eax, 0xff);
  a.out(0x21, al);
  a.out(0xa1, al);
  a.mov(esi, LOAD + STUB);
  a.mov(edi, 0);
  a.mov(ecx, ramBytes / 4);
  a.rep();
  a.string("movs", 32);
  a.mov(eax, Number(sregs.cr4));
  a.movToSystem(cr(4), eax);
  a.mov(eax, Number(sregs.cr3));
  a.movToSystem(cr(3), eax);
  a.mov(ecx, 0xc0000080);
  a.op("rdmsr");
  a.or(eax, Number(sregs.efer & ~0x400n));
  a.op("wrmsr");
  a.mov(eax, Number(sregs.cr0));
  a.movToSystem(cr(0), eax);
  a.table("lgdt", mem({ label: "gdtr" }));
  a.jmpFar(sregs.cs.selector, addressOf("long"), 32);
  a.bits(64);
  a.label("long");
  a.table("lidt", mem({ label: "idtr" }));
  a.mov(eax, sregs.ds.selector);
  for (const segment of [ds, es, ss]) a.movSegment(segment, eax);
  a.mov(ax, sregs.tr.selector);
  a.ltr(eax);
  a.mov(rsp, regs.rsp);
  a.push(Number(regs.rflags));
  a.op("popf");
  for (let n = 1; n < 16; n++) if (n !== rsp.number) a.mov({ ...rax, number: n }, 0);
  a.mov(rax, regs.rip);
  a.jmp(rax);
  return a.finish();
}

/**
 * QEMU's software processor (TCG) behind the contract, as far as the conformance programs need: one vCPU that starts
 * in long mode, RAM from 0, port writes (from QEMU's trace of them). An oracle for tests, not a backend.
 */
export function qemuHypervisor(program: string): Hypervisor {
  return { name: "qemu", createVm: (options) => Promise.resolve(new QemuVm(program, options)) };
}

const refuse = (what: string): never => {
  throw new Error(`the QEMU oracle has no ${what}`);
};

class QemuVm implements VirtualMachine {
  readonly vcpus: readonly Vcpu[];
  readonly msi = { signal: () => refuse("MSI") };
  readonly irqchip = { save: () => refuse("save"), restore: () => refuse("restore") };
  readonly dirtyLog = {
    enable: () => refuse("dirty log"),
    disable: () => refuse("dirty log"),
    harvest: () => refuse("dirty log"),
  };
  ram: MemorySlot | undefined;

  constructor(program: string, options: VmOptions) {
    if (options.vcpus !== 1) refuse("second vCPU");
    this.vcpus = [new QemuVcpu(this, program, options)];
  }

  addMemory(slot: { readonly name: string; readonly gpa: number; readonly length: number }): MemorySlot {
    if (slot.gpa !== 0) refuse("second slot");
    this.ram = { ...slot, readOnly: false, bytes: new Uint8Array(slot.length) };
    return this.ram;
  }

  memoryWritten(): void {
    // The image is written when the vCPU starts.
  }

  setIrq(): void {
    refuse("interrupt lines");
  }

  stats(): Readonly<Record<string, number>> {
    return {};
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

class QemuVcpu implements Vcpu {
  readonly index = 0;
  readonly #vm: QemuVm;
  readonly #program: string;
  readonly #options: VmOptions;
  #state: VcpuState | undefined;
  #process: ChildProcess | undefined;
  #isKicked = false;

  constructor(vm: QemuVm, program: string, options: VmOptions) {
    this.#vm = vm;
    this.#program = program;
    this.#options = options;
  }

  async run(): Promise<VmExit> {
    const ram = this.#vm.ram ?? refuse("memory");
    const directory = mkdtempSync(join(tmpdir(), "northbridge-qemu-"));
    const image = join(directory, "image");
    const bytes = new Uint8Array(STUB + ram.length);
    bytes.set(stub(this.#state ?? refuse("state"), ram.length));
    bytes.set(ram.bytes, STUB);
    writeFileSync(image, bytes);
    const args = [
      "-M",
      "pc",
      "-accel",
      "tcg",
      "-cpu",
      "max,vendor=GenuineIntel",
      "-m",
      "64",
      "-nodefaults",
      "-display",
      "none",
      "-no-reboot",
    ];
    const qemu = spawn(this.#program, [...args, "-trace", "memory_region_ops_write", "-kernel", image], {
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 20_000,
    });
    this.#process = qemu;
    try {
      for await (const line of createInterface({ input: qemu.stderr })) {
        const [, port, value, size] = OUT.exec(line) ?? [];
        if (port === undefined || this.#isKicked) continue;
        this.#options.ports.write(Number(port), Number(size) as IoWidth, Number(value));
      }
      return this.#isKicked ? { kind: "interrupted" } : { kind: "shutdown", detail: "QEMU ended" };
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  kick(): void {
    this.#isKicked = true;
    this.#process?.kill("SIGKILL");
  }

  getState(): VcpuState {
    // Only what `setState` is given matters here.
    return this.#state ?? ({ sregs: {}, regs: {} } as VcpuState);
  }

  setState(state: VcpuState): void {
    this.#state = state;
  }

  reset(): void {
    this.#state = undefined;
  }

  setDebug(): void {
    refuse("debugger");
  }
}
