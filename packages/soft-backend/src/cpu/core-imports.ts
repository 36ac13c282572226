import type { BusAccess, IoWidth } from "@northbridge/sdk";
import type { CpuidTable } from "../cpuid/cpuid-table.ts";
import { IOAPIC_PAGE, type InterruptControllers } from "@northbridge/devices-legacy";
import type { SoftProcessor } from "../vcpu/soft-processor.ts";
import type { CoreImports, CpuCore } from "./core.ts";
import { CR4, MAILBOX, STATE } from "./layout.ts";

const CR4_OSXSAVE = 1 << 18;
const PAGES_4G = 0x10_0000;
const TWO_32 = 0x1_0000_0000;
const ALL_ONES = 0xffff_ffff;

/** What the imports need of the machine. `core` and `current` exist only once the module does. */
export interface CoreImportsDeps {
  readonly core: () => CpuCore;
  /** The processor inside `run`. */
  readonly current: () => SoftProcessor;
  readonly irqchip: InterruptControllers;
  readonly cpuid: CpuidTable;
  readonly ports: BusAccess;
  readonly mmio: BusAccess;
  readonly exits: ExitCounts;
}

/** Accesses that left the core, by kind. */
export interface ExitCounts {
  portReads: number;
  portWrites: number;
  mmioReads: number;
  mmioWrites: number;
  lapicAccesses: number;
  msrReads: number;
  msrWrites: number;
  tscReads: number;
  cpuids: number;
  interrupts: number;
}

/**
 * The core's way out. The backend's own chips answer before the buses, as KVM's in-kernel ones do. Nothing thrown by a
 * device may unwind through wasm: it is remembered, the access reads ones, and the run ends with it.
 */
export function coreImports(deps: CoreImportsDeps): CoreImports {
  const { irqchip, cpuid, ports, mmio, exits } = deps;

  const portIn = (port: number, size: number): number => {
    if (!irqchip.claims(port)) return ports.read(port, size as IoWidth);
    let value = irqchip.readPort(port);
    for (let byte = 1; byte < size; byte++) value |= portIn(port + byte, 1) << (8 * byte);
    return value;
  };

  const portOut = (port: number, size: number, value: number): void => {
    if (!irqchip.claims(port)) {
      ports.write(port, size as IoWidth, value);
      return;
    }
    irqchip.writePort(port, value & 0xff);
    for (let byte = 1; byte < size; byte++) portOut(port + byte, 1, (value >>> (8 * byte)) & 0xff);
  };

  return {
    portIn(port, size) {
      exits.portReads++;
      try {
        return portIn(port, size);
      } catch (failure) {
        deps.current().fail(`read of port 0x${port.toString(16)}`, failure);
        return ALL_ONES;
      }
    },
    portOut(port, size, value) {
      exits.portWrites++;
      try {
        portOut(port, size, size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff));
      } catch (failure) {
        deps.current().fail(`write of port 0x${port.toString(16)}`, failure);
      }
    },
    mmioRead(gpaLow, gpaHigh, size) {
      const page = (gpaLow >>> 12) + (gpaHigh >>> 0) * PAGES_4G;
      const processor = deps.current();
      if (page === processor.lapic.mmioPage) {
        exits.lapicAccesses++;
        return processor.lapic.readMmio(gpaLow & 0xfff, size);
      }
      exits.mmioReads++;
      try {
        if (page === IOAPIC_PAGE) return irqchip.ioapic.read(gpaLow & 0xfff, size as IoWidth);
        return mmio.read((gpaLow >>> 0) + (gpaHigh >>> 0) * TWO_32, size as IoWidth);
      } catch (failure) {
        processor.fail(`read of MMIO page 0x${page.toString(16)}`, failure);
        return ALL_ONES;
      }
    },
    mmioWrite(gpaLow, gpaHigh, size, value) {
      const page = (gpaLow >>> 12) + (gpaHigh >>> 0) * PAGES_4G;
      const processor = deps.current();
      const unsigned = size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff);
      if (page === processor.lapic.mmioPage) {
        exits.lapicAccesses++;
        processor.lapic.writeMmio(gpaLow & 0xfff, size, unsigned);
        return;
      }
      exits.mmioWrites++;
      try {
        if (page === IOAPIC_PAGE) irqchip.ioapic.write(gpaLow & 0xfff, size as IoWidth, unsigned);
        else mmio.write((gpaLow >>> 0) + (gpaHigh >>> 0) * TWO_32, size as IoWidth, unsigned);
      } catch (failure) {
        processor.fail(`write of MMIO page 0x${page.toString(16)}`, failure);
      }
    },
    acknowledge() {
      exits.interrupts++;
      const { lapic } = deps.current();
      // As KVM does, the 8259s come before the local APIC's own vectors.
      return irqchip.pic.intr && lapic.acceptsExtInt ? irqchip.pic.acknowledge() : lapic.acknowledge();
    },
    readTsc() {
      exits.tscReads++;
      const { tsc } = deps.current();
      const { words } = deps.core();
      tsc.sample();
      words[MAILBOX >> 2] = tsc.low;
      words[(MAILBOX >> 2) + 1] = tsc.high;
    },
    readMsr(index) {
      exits.msrReads++;
      const { msrs } = deps.current();
      if (!msrs.read(index)) return 1;
      const { words } = deps.core();
      words[MAILBOX >> 2] = msrs.low;
      words[(MAILBOX >> 2) + 1] = msrs.high;
      return 0;
    },
    writeMsr(index) {
      exits.msrWrites++;
      const { words } = deps.core();
      return deps.current().msrs.write(index, words[MAILBOX >> 2] ?? 0, words[(MAILBOX >> 2) + 1] ?? 0)
        ? 0
        : 1;
    },
    cpuid() {
      exits.cpuids++;
      const { words } = deps.core();
      const { index, lapic, state } = deps.current();
      const at = MAILBOX >> 2;
      const osXsave = ((words[(state + CR4 - STATE) >> 2] ?? 0) & CR4_OSXSAVE) !== 0;
      cpuid.look(words[at] ?? 0, words[at + 1] ?? 0, index, lapic.isEnabled, osXsave);
      words[at + 2] = cpuid.eax;
      words[at + 3] = cpuid.ebx;
      words[at + 4] = cpuid.ecx;
      words[at + 5] = cpuid.edx;
    },
    cr8Written(value) {
      deps.current().lapic.setTaskPriority(value);
    },
  };
}
