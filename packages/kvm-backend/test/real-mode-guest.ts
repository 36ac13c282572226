import { type AddressSpace, mmioBus, portBus } from "@northbridge/core";
import type { DrivenClock, Hypervisor, IoHandler, IoRegion, Vcpu, VirtualMachine } from "@northbridge/sdk";
import { kvmHypervisor, type KvmOptions } from "../src/index.ts";
import { realtime } from "./host-time.ts";

const RAM = 0x10000;
const CODE = 0x1000;
/** Where ES points: the start of MMIO. */
export const MMIO = 0x20000;

/** A machine under KVM whose processors execute 16-bit code at 1000h, with ES at MMIO and buses to map devices on. */
export class RealModeGuest {
  readonly vm: VirtualMachine;
  readonly ports: AddressSpace = portBus();
  readonly mmio: AddressSpace = mmioBus();
  readonly ram: Uint8Array;
  readonly clock: DrivenClock;

  private constructor(
    vm: VirtualMachine,
    { clock, ...buses }: Pick<RealModeGuest, "ports" | "mmio" | "clock">,
    ram: number,
  ) {
    this.vm = vm;
    this.clock = clock;
    this.ports = buses.ports;
    this.mmio = buses.mmio;
    this.ports.shortcuts = vm.shortcuts?.ports;
    this.mmio.shortcuts = vm.shortcuts?.mmio;
    this.ram = vm.addMemory({ name: "ram", gpa: 0, length: ram }).bytes;
  }

  /** @param code what every processor executes; `regs.ax` of each is its number */
  static async create(
    code: readonly number[],
    options: KvmOptions & {
      readonly vcpus?: number;
      readonly ram?: number;
      readonly name?: string;
      /** Instead of KVM. */
      readonly hypervisor?: Hypervisor;
    } = {},
  ): Promise<RealModeGuest> {
    const given = { ports: portBus(), mmio: mmioBus(), clock: realtime() };
    const { vcpus = 1, ram = RAM, name, hypervisor, ...how } = options;
    const vm = await (hypervisor ?? kvmHypervisor(how)).createVm({ name, vcpus, memoryBytes: ram, ...given });
    const guest = new RealModeGuest(vm, given, ram);
    guest.ram.set(code, CODE);
    vm.memoryWritten(0, ram);
    vm.vcpus.forEach((vcpu, i) => {
      const { regs, sregs, ...rest } = vcpu.getState();
      const flat = { base: 0n, selector: 0 };
      vcpu.setState({
        ...rest,
        mpState: "runnable",
        regs: { ...regs, rip: BigInt(CODE), rax: BigInt(i) },
        sregs: {
          ...sregs,
          cs: { ...sregs.cs, ...flat },
          ds: { ...sregs.ds, ...flat },
          es: { ...sregs.es, base: BigInt(MMIO), selector: MMIO >> 4 },
        },
      });
    });
    return guest;
  }

  get vcpu(): Vcpu {
    return this.vm.vcpus[0]!;
  }

  word(at: number): number {
    return this.ram[at]! | (this.ram[at + 1]! << 8);
  }

  /** Maps a device at MMIO. */
  mapMmio(handler: IoHandler): () => void {
    return this.mmio.map({ name: "device", base: MMIO, length: 0x1000 }, handler);
  }

  mapPorts(region: Omit<IoRegion, "name">, handler: IoHandler): () => void {
    return this.ports.map({ name: "device", ...region }, handler);
  }
}
