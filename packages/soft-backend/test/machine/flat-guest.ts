import { VirtualClock } from "@northbridge/core";
import type { BusAccess, CpuModel, KvmSegment, MemorySlot, VirtualMachine } from "@northbridge/sdk";
import { Assembler } from "@northbridge/sdk/asm";
import { softHypervisor } from "../../src/index.ts";

/** Where programs are loaded and entered. */
export const CODE = 0x1_0000;
/** Interrupt descriptor table, 8-byte gates. */
export const IDT = 0x2000;
/** Global descriptor table: flat code at 8, flat data at 16, room for more behind. */
export const GDT = 0x3000;
export const STACK = 0x8_0000;
const RAM_BYTES = 0x10_0000;
export const PORT = 0xe9;

const flat = (type: number, selector: number): KvmSegment => ({
  base: 0n,
  limit: 0xffff_ffff,
  selector,
  type,
  present: true,
  dpl: 0,
  db: true,
  s: true,
  l: false,
  g: true,
  avl: false,
  unusable: false,
});

/** What the program wrote to `PORT`, and what else it did to its ports. */
export interface FlatGuest {
  readonly vm: VirtualMachine;
  readonly ram: MemorySlot;
  readonly clock: VirtualClock;
  readonly written: number[];
  /** Called for reads of any port but the recording one. */
  onRead: (port: number) => number;
  onWrite: (port: number, value: number) => void;
}

/** A machine of one megabyte with a recording port and nothing else. */
export async function bareGuest(vcpus = 1, cpuModel?: CpuModel): Promise<FlatGuest> {
  const clock = new VirtualClock();
  const written: number[] = [];
  const hooks = {
    onRead: (_port: number): number => 0xff,
    onWrite: (_port: number, _value: number): void => undefined,
  };
  const ports: BusAccess = {
    read: (port) => hooks.onRead(port),
    write: (port, _width, value) => {
      if (port === PORT) written.push(value);
      else hooks.onWrite(port, value);
    },
  };
  const mmio: BusAccess = { read: () => 0xffff_ffff, write: () => undefined };
  const vm = await softHypervisor().createVm({
    vcpus,
    clock,
    ports,
    mmio,
    memoryBytes: RAM_BYTES,
    cpuModel,
  });
  const ram = vm.addMemory({ name: "ram", gpa: 0, length: RAM_BYTES });
  return Object.assign(hooks, { vm, ram, clock, written });
}

/**
 * Assembles a program and enters it in flat 32-bit protected mode without paging, interrupts off.
 * `gates` names the handler of each vector, `descriptors` gives more of the GDT by selector.
 */
export async function flatGuest(
  write: (a: Assembler) => void,
  options: {
    readonly vcpus?: number;
    readonly cpuModel?: CpuModel;
    readonly gates?: Readonly<Record<number, string>>;
    readonly descriptors?: Readonly<Record<number, bigint>>;
  } = {},
): Promise<FlatGuest> {
  const guest = await bareGuest(options.vcpus, options.cpuModel);
  const { vm, ram } = guest;
  const a = new Assembler({ origin: CODE, bits: 32 });
  write(a);
  ram.bytes.set(a.finish(), CODE);
  const view = new DataView(ram.bytes.buffer, ram.bytes.byteOffset, ram.bytes.byteLength);
  view.setBigUint64(GDT + 8, 0x00cf_9b00_0000_ffffn, true);
  view.setBigUint64(GDT + 16, 0x00cf_9300_0000_ffffn, true);
  for (const [selector, descriptor] of Object.entries(options.descriptors ?? {}))
    view.setBigUint64(GDT + Number(selector), descriptor, true);
  for (const [vector, label] of Object.entries(options.gates ?? {})) {
    const handler = a.addressOf(label);
    view.setUint32(IDT + Number(vector) * 8, (8 << 16) | (handler & 0xffff), true);
    view.setUint32(IDT + Number(vector) * 8 + 4, (handler & 0xffff_0000) | 0x8e00, true);
  }
  vm.memoryWritten(0, RAM_BYTES);
  const vcpu = vm.vcpus[0]!;
  const state = vcpu.getState();
  const data = flat(3, 16);
  vcpu.setState({
    ...state,
    regs: { ...state.regs, rip: BigInt(CODE), rsp: BigInt(STACK), rflags: 2n },
    sregs: {
      ...state.sregs,
      cs: flat(11, 8),
      ds: data,
      es: data,
      fs: data,
      gs: data,
      ss: data,
      gdt: { base: BigInt(GDT), limit: 127 },
      idt: { base: BigInt(IDT), limit: 256 * 8 - 1 },
      cr0: 0x11n,
    },
  });
  return guest;
}
