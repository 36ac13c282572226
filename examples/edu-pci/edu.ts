import { bit, definePlugin, type RegisterState, registerMap } from "@northbridge/sdk";
import { PciBus, PciFunction } from "@northbridge/sdk/pci";
import * as v from "valibot";

/** QEMU's educational PCI device (docs/specs/edu.rst): a factorial engine, interrupts on request, and DMA. */
export const registers = registerMap(
  "edu",
  {
    ID: { offset: 0x00, access: "ro", reset: 0x0100_00ed, description: "Identification" },
    LIVE: { offset: 0x04, volatile: true, description: "Reads as the inverse of what was written" },
    FACT: {
      offset: 0x08,
      volatile: true,
      examples: [5, 13, 33, 34, 35],
      description: "A number, then its factorial",
    },
    STATUS: { offset: 0x20, fields: { COMPUTING: bit(0, { access: "ro" }), IRQFACT: bit(7) } },
    IRQ_STATUS: { offset: 0x24, access: "ro", description: "What interrupts" },
    IRQ_RAISE: { offset: 0x60, access: "wo" },
    IRQ_ACK: { offset: 0x64, access: "wo" },
    // Behind 28 bits of address it begins anew.
    DMA_SRC: { offset: 0x80, volatile: true, examples: [0x4_0000, 0x4_0000, 0x1000, 0x1000_1000] },
    DMA_DST: { offset: 0x88, volatile: true, examples: [0x4_0000, 0x4_0000, 0x1000, 0x1000_1000] },
    DMA_CNT: { offset: 0x90, volatile: true, examples: [4, 4096] },
    DMA_CMD: { offset: 0x98, volatile: true, fields: { RUN: bit(0), TO_RAM: bit(1), IRQ: bit(2) } },
  },
  { length: 1 << 20, unreadable: "ones" },
);
const { STATUS, DMA_CMD } = registers.masks;

/** Where the DMA engine sees the device's own memory. */
export const BUFFER = { base: 0x4_0000, length: 4096 } as const;
const Irq = { FACT: 0x001, DMA: 0x100 } as const;
const DMA_NS = 100e6;
const FACT_NS = 1000;
/** Addresses that DMA reaches: 28 bits. */
const DMA_MASK = 0x0fff_ffff;

interface State {
  readonly regs: RegisterState;
  readonly buffer: readonly number[];
  readonly dmaNs: number | null;
  readonly factNs: number | null;
}

/** Transfers that leave the device's memory are dropped, where QEMU ends. */
export const edu = definePlugin({
  name: "@example/devices/edu",
  config: v.strictObject({ slot: v.optional(v.number()) }),
  requires: [PciBus],
  setup(ctx, { slot }) {
    const buffer = new Uint8Array(BUFFER.length);
    const dmaTimer = ctx.clock.createTimer(transfer);
    const factTimer = ctx.clock.createTimer(() => {
      let product = 1;
      for (let n = Math.min(regs.values.FACT, 34); n > 0; n--) product = Math.imul(product, n);
      regs.values.FACT = (regs.values.FACT > 34 ? 0 : product) >>> 0;
      regs.values.STATUS &= ~STATUS.COMPUTING;
      if ((regs.values.STATUS & STATUS.IRQFACT) !== 0) raise(Irq.FACT);
    });
    const isRunning = () => (regs.values.DMA_CMD & DMA_CMD.RUN) !== 0;
    const held = (name: "DMA_SRC" | "DMA_DST" | "DMA_CNT") => ({
      write(_stored: number, previous: number) {
        if (isRunning()) regs.values[name] = previous;
      },
    });

    const regs = registers.create({
      hooks: {
        LIVE: { write: (stored) => void (regs.values.LIVE = ~stored >>> 0) },
        FACT: {
          write(_stored, previous) {
            if ((regs.values.STATUS & STATUS.COMPUTING) !== 0) {
              regs.values.FACT = previous;
              return;
            }
            regs.values.STATUS |= STATUS.COMPUTING;
            factTimer.arm(ctx.clock.nowNs() + FACT_NS);
          },
        },
        IRQ_RAISE: { write: (_stored, _previous, written) => raise(written) },
        IRQ_ACK: {
          write(_stored, _previous, written) {
            regs.values.IRQ_STATUS = (regs.values.IRQ_STATUS & ~written) >>> 0;
            fn.setIntx(regs.values.IRQ_STATUS !== 0);
          },
        },
        DMA_SRC: held("DMA_SRC"),
        DMA_DST: held("DMA_DST"),
        DMA_CNT: held("DMA_CNT"),
        DMA_CMD: {
          write(stored, previous) {
            // While a transfer runs, nobody starts another.
            const isStart = (stored & DMA_CMD.RUN) !== 0 && (previous & DMA_CMD.RUN) === 0;
            if (isStart) dmaTimer.arm(ctx.clock.nowNs() + DMA_NS);
            else regs.values.DMA_CMD = previous;
          },
        },
      },
    });

    function raise(bits: number): void {
      regs.values.IRQ_STATUS = (regs.values.IRQ_STATUS | bits) >>> 0;
      if (regs.values.IRQ_STATUS !== 0 && !fn.signalMsi()) fn.setIntx(true);
    }

    function transfer(): void {
      const { DMA_SRC: source, DMA_DST: target, DMA_CNT: count, DMA_CMD: command } = regs.values;
      const isToRam = (command & DMA_CMD.TO_RAM) !== 0;
      const own = (isToRam ? source : target) - BUFFER.base;
      if (fn.isBusMaster && own >= 0 && own + count <= BUFFER.length) {
        const part = buffer.subarray(own, own + count);
        if (isToRam) ctx.memory.write((target & DMA_MASK) >>> 0, part);
        else ctx.memory.read((source & DMA_MASK) >>> 0, part);
      }
      regs.values.DMA_CMD &= ~DMA_CMD.RUN;
      if ((command & DMA_CMD.IRQ) !== 0) raise(Irq.DMA);
    }

    const fn: PciFunction = new PciFunction(ctx, {
      vendorId: 0x1234,
      deviceId: 0x11e8,
      revision: 0x10,
      classCode: 0x00_ff00,
      interruptPin: 1,
      msi: true,
      bars: [
        {
          index: 0,
          kind: "memory32",
          length: registers.length,
          regions: [{ offset: 0, length: registers.length, handler: regs.handler }],
        },
      ],
    });
    ctx.get(PciBus).attach(fn, slot === undefined ? {} : { device: slot });
    return {
      reset() {
        regs.reset();
        buffer.fill(0);
        dmaTimer.disarm();
        factTimer.disarm();
      },
      save: (): State => ({
        regs: regs.save(),
        buffer: [...buffer],
        dmaNs: dmaTimer.deadlineNs ?? null,
        factNs: factTimer.deadlineNs ?? null,
      }),
      restore(state: State) {
        regs.restore(state.regs);
        buffer.set(state.buffer);
        if (state.dmaNs !== null) dmaTimer.arm(state.dmaNs);
        if (state.factNs !== null) factTimer.arm(state.factNs);
      },
    };
  },
});
