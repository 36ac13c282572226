import { bit, bits, Console, definePlugin, type RegisterState, registerMap } from "@northbridge/sdk";
import * as v from "valibot";
import { identification } from "./identification.ts";

const INTERRUPTS = {
  RI: bit(0),
  CTS: bit(1),
  DCD: bit(2),
  DSR: bit(3),
  RX: bit(4),
  TX: bit(5),
  RT: bit(6),
  FE: bit(7),
  PE: bit(8),
  BE: bit(9),
  OE: bit(10),
};

/** ARM PrimeCell UART (PL011) technical reference manual, ARM DDI 0183, §3.3. */
export const registers = registerMap("pl011", {
  DR: { offset: 0x00, volatile: true, fields: { DATA: bits(0, 8), ERRORS: bits(8, 4, { access: "ro" }) } },
  RSR_ECR: { offset: 0x04, access: "ro", description: "Errors of the byte read last; a write clears them" },
  FR: {
    offset: 0x18,
    access: "ro",
    volatile: true,
    reset: 0x90,
    fields: { BUSY: bit(3), RXFE: bit(4), TXFF: bit(5), RXFF: bit(6), TXFE: bit(7) },
  },
  ILPR: { offset: 0x20, fields: { DIVISOR: bits(0, 8) } },
  IBRD: { offset: 0x24, fields: { DIVISOR: bits(0, 16) } },
  FBRD: { offset: 0x28, fields: { FRACTION: bits(0, 6) } },
  LCR_H: {
    offset: 0x2c,
    fields: {
      BRK: bit(0),
      PEN: bit(1),
      EPS: bit(2),
      STP2: bit(3),
      FEN: bit(4),
      WLEN: bits(5, 2, { values: { BITS_5: 0, BITS_6: 1, BITS_7: 2, BITS_8: 3 } }),
      SPS: bit(7),
    },
  },
  CR: {
    offset: 0x30,
    reset: 0x300,
    fields: {
      UARTEN: bit(0),
      SIREN: bit(1),
      SIRLP: bit(2),
      LBE: bit(7),
      TXE: bit(8),
      RXE: bit(9),
      DTR: bit(10),
      RTS: bit(11),
      OUT1: bit(12),
      OUT2: bit(13),
      RTSEN: bit(14),
      CTSEN: bit(15),
    },
  },
  IFLS: { offset: 0x34, reset: 0x12, fields: { TXIFLSEL: bits(0, 3), RXIFLSEL: bits(3, 3) } },
  IMSC: { offset: 0x38, fields: INTERRUPTS },
  RIS: { offset: 0x3c, access: "ro", fields: INTERRUPTS },
  MIS: { offset: 0x40, access: "ro", fields: INTERRUPTS },
  ICR: { offset: 0x44, access: "wo", fields: INTERRUPTS },
  DMACR: { offset: 0x48, fields: { RXDMAE: bit(0), TXDMAE: bit(1), DMAONERR: bit(2) } },
  ...identification(0x011, 1),
});
const { FR, LCR_H, CR, RIS } = registers.masks;

const FIFO = 16;
/** Bytes in the FIFO from which RX is raised, by RXIFLSEL (§3.3.9): 1/8, 1/4, 1/2, 3/4, 7/8. */
const TRIGGERS = [2, 4, 8, 12, 14];
/** Bits without input after which RT is raised (§2.8.3), and what they take. */
const TIMEOUT_BITS = 32;
const UARTCLK = 24e6;

interface State {
  readonly regs: RegisterState;
  readonly fifo: readonly number[];
  readonly timeoutNs: number | null;
}

/**
 * A serial port. Bytes are sent at once, so that the transmitter is always empty; while it is disabled they are lost.
 * Not modelled: line errors, modem lines, IrDA, DMA requests.
 */
export const pl011 = definePlugin({
  name: "@example/devices/pl011",
  config: v.strictObject({ base: v.optional(v.number(), 0xfe81_0000), gsi: v.optional(v.number(), 11) }),
  requires: [Console],
  setup(ctx, { base, gsi }) {
    const line = ctx.irq(gsi);
    const end = ctx.get(Console);
    const fifo: number[] = [];
    const isOn = (mask: number, value: number): boolean => (value & mask) !== 0;
    const hasFifo = (): boolean => isOn(LCR_H.FEN, regs.values.LCR_H);
    const capacity = (): number => (hasFifo() ? FIFO : 1);
    const trigger = (): number => (hasFifo() ? (TRIGGERS[(regs.values.IFLS >> 3) & 7] ?? FIFO) : 1);
    const canSend = (): boolean => isOn(CR.UARTEN, regs.values.CR) && isOn(CR.TXE, regs.values.CR);
    const canReceive = (): boolean => isOn(CR.UARTEN, regs.values.CR) && isOn(CR.RXE, regs.values.CR);
    const isRaised = (): boolean => (regs.values.RIS & regs.values.IMSC) !== 0;
    const sync = (): void => line.set(isRaised());

    const timeout = ctx.clock.createTimer(() => {
      if (fifo.length > 0) regs.values.RIS |= RIS.RT;
      sync();
    });
    const awaitMore = (): void => {
      const divisor = regs.values.IBRD + regs.values.FBRD / 64;
      const bitNs = divisor === 0 ? 1e9 / 115_200 : (16e9 * divisor) / UARTCLK;
      timeout.arm(ctx.clock.nowNs() + Math.ceil(TIMEOUT_BITS * bitNs));
    };
    const showLevel = (): void => {
      const flags = (fifo.length === 0 ? FR.RXFE : 0) | (fifo.length >= capacity() ? FR.RXFF : 0);
      regs.values.FR = (regs.values.FR & ~(FR.RXFE | FR.RXFF)) | flags;
    };
    const take = (byte: number): void => {
      fifo.push(byte);
      if (fifo.length === trigger()) regs.values.RIS |= RIS.RX;
      showLevel();
      awaitMore();
    };
    const send = (byte: number): void => {
      if (!canSend()) return;
      const width = 5 + ((regs.values.LCR_H & LCR_H.WLEN) >> 5);
      const sent = byte & (2 ** width - 1);
      if (!isOn(CR.LBE, regs.values.CR)) end.write(sent);
      else if (canReceive() && fifo.length < capacity()) take(sent);
      regs.values.RIS |= RIS.TX;
    };
    const readByte = (): number => {
      const byte = fifo.shift() ?? 0;
      if (fifo.length < trigger()) regs.values.RIS &= ~RIS.RX;
      if (fifo.length === 0) {
        regs.values.RIS &= ~RIS.RT;
        timeout.disarm();
      }
      showLevel();
      sync();
      if (!isOn(CR.LBE, regs.values.CR)) end.resume();
      return byte;
    };

    const regs = registers.create({
      hooks: {
        DR: { read: readByte, write: (_stored, _previous, written) => send(written & 0xff) },
        LCR_H: {
          write(stored, previous) {
            if (!isOn(LCR_H.FEN, stored ^ previous)) return;
            fifo.length = 0;
            showLevel();
          },
        },
        MIS: { read: () => regs.values.RIS & regs.values.IMSC },
        ICR: { write: (_stored, _previous, written) => void (regs.values.RIS &= ~written) },
        CR: { write: () => end.resume() },
      },
      sync,
    });
    ctx.mapMmio({ base, length: registers.length }, regs.handler);
    end.connect((bytes) => {
      let taken = 0;
      if (canReceive() && !isOn(CR.LBE, regs.values.CR))
        while (taken < bytes.length && fifo.length < capacity()) take(bytes[taken++] ?? 0);
      sync();
      return taken;
    });
    return {
      reset() {
        regs.reset();
        fifo.length = 0;
        timeout.disarm();
        line.set(false);
      },
      save: (): State => ({ regs: regs.save(), fifo: [...fifo], timeoutNs: timeout.deadlineNs ?? null }),
      restore(state: State) {
        regs.restore(state.regs);
        fifo.splice(0, fifo.length, ...state.fifo);
        if (state.timeoutNs !== null) timeout.arm(state.timeoutNs);
        line.adopt(isRaised());
      },
    };
  },
});
