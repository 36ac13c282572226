import { bit, bits, definePlugin, NorthbridgeError, type RegisterState, registerMap } from "@northbridge/sdk";
import { PciBus, PciFunction } from "@northbridge/sdk/pci";
import * as v from "valibot";
import { I2cBus, type I2cTarget } from "./i2c.ts";

const Command = { QUICK: 0, BYTE: 1, BYTE_DATA: 2, WORD_DATA: 3, PROCESS_CALL: 4, BLOCK: 5 } as const;

/** SMBus host controller of the Intel 82801AA (ICH) I/O hub: data sheet 290655, §12.2. */
export const registers = registerMap("smbus", {
  HST_STS: {
    offset: 0x00,
    width: 1,
    access: "w1c",
    fields: {
      HOST_BUSY: bit(0, { access: "ro" }),
      INTR: bit(1),
      DEV_ERR: bit(2),
      BUS_ERR: bit(3),
      FAILED: bit(4),
      INUSE_STS: bit(6, { volatile: true, description: "A semaphore: set by being read" }),
    },
  },
  HST_CNT: {
    offset: 0x02,
    width: 1,
    fields: {
      INTREN: bit(0),
      KILL: bit(1),
      SMB_CMD: bits(2, 3, { values: Command }),
      START: bit(6, { access: "wo" }),
    },
  },
  HST_CMD: { offset: 0x03, width: 1, examples: [0, 1, 0x3f] },
  XMIT_SLVA: { offset: 0x04, width: 1, fields: { RW: bit(0), ADDRESS: bits(1, 7) }, examples: [0xd0, 0xd1] },
  HST_D0: { offset: 0x05, width: 1, volatile: true },
  HST_D1: { offset: 0x06, width: 1, volatile: true },
  BLOCK_DB: { offset: 0x07, width: 1 },
});
const { HST_STS: Status, HST_CNT: Control } = registers.masks;
const Config = { HOSTC: 0x40, HST_EN: 0x01 } as const;
const LENGTH = 16;
/** A byte and its acknowledgement, at 100 kHz. */
const BYTE_NS = 90_000;
/** Bytes on the wire, by command. */
const BYTES: Readonly<Record<number, number>> = {
  [Command.QUICK]: 1,
  [Command.BYTE]: 2,
  [Command.BYTE_DATA]: 4,
  [Command.WORD_DATA]: 5,
};

interface State {
  readonly regs: RegisterState;
  readonly doneNs: number | null;
}

/** An I2C bus behind an SMBus host. Not modelled: block commands (they fail), SMI, the bus's clock being held. */
export const smbus = definePlugin({
  name: "@example/devices/smbus",
  config: v.strictObject({ slot: v.optional(v.number()) }),
  requires: [PciBus],
  provides: [I2cBus],
  setup(ctx, { slot }) {
    const targets = new Map<number, I2cTarget>();
    ctx.provide(I2cBus, {
      attach(address, target) {
        if (targets.has(address))
          throw new NorthbridgeError("NB_CONFIG", `${ctx.id}: two chips at 0x${address.toString(16)}`);
        targets.set(address, target);
      },
    });
    const sync = (): void => {
      const raising = Status.INTR | Status.DEV_ERR | Status.BUS_ERR | Status.FAILED;
      fn.setIntx((regs.values.HST_CNT & Control.INTREN) !== 0 && (regs.values.HST_STS & raising) !== 0);
    };

    /** Returns how it went, as a bit of HST_STS. */
    const transfer = (): number => {
      const { values } = regs;
      const command = (values.HST_CNT & Control.SMB_CMD) >> 2;
      const isRead = (values.XMIT_SLVA & 1) !== 0;
      const target = targets.get(values.XMIT_SLVA >> 1);
      if (BYTES[command] === undefined) return Status.FAILED;
      if (target === undefined) return Status.DEV_ERR;
      const data = command === Command.WORD_DATA ? 2 : command === Command.BYTE_DATA ? 1 : 0;
      let isTaken = true;
      if (command !== Command.BYTE || !isRead) target.start(command === Command.QUICK && isRead);
      if (command !== Command.QUICK && (command !== Command.BYTE || !isRead))
        isTaken = target.write(values.HST_CMD);
      if (isRead && command !== Command.QUICK) {
        target.start(true);
        values.HST_D0 = target.read();
        if (data === 2) values.HST_D1 = target.read();
      } else {
        if (data > 0) isTaken &&= target.write(values.HST_D0);
        if (data > 1) isTaken &&= target.write(values.HST_D1);
      }
      target.stop();
      return isTaken ? Status.INTR : Status.DEV_ERR;
    };
    const done = ctx.clock.createTimer(() => {
      const outcome = transfer();
      regs.values.HST_STS = (regs.values.HST_STS & ~Status.HOST_BUSY) | outcome;
      sync();
    });
    const control = (stored: number, _previous: number, written: number): void => {
      const isBusy = (regs.values.HST_STS & Status.HOST_BUSY) !== 0;
      if ((stored & Control.KILL) !== 0) {
        if (!isBusy) return;
        done.disarm();
        regs.values.HST_STS = (regs.values.HST_STS & ~Status.HOST_BUSY) | Status.FAILED;
      } else if ((written & Control.START) !== 0 && !isBusy && isEnabled()) {
        regs.values.HST_STS |= Status.HOST_BUSY;
        done.arm(ctx.clock.nowNs() + BYTE_NS * (BYTES[(stored & Control.SMB_CMD) >> 2] ?? 1));
      }
    };
    const regs = registers.create({
      hooks: {
        HST_STS: {
          read(stored) {
            regs.values.HST_STS |= Status.INUSE_STS;
            return stored;
          },
        },
        HST_CNT: { write: control },
      },
      sync,
    });
    const fn: PciFunction = new PciFunction(ctx, {
      vendorId: 0x8086,
      deviceId: 0x2413,
      revision: 0x02,
      classCode: 0x0c_0500,
      interruptPin: 2,
      bars: [
        {
          index: 4,
          kind: "io",
          length: LENGTH,
          regions: [{ offset: 0, length: LENGTH, handler: regs.handler }],
        },
      ],
    });
    const isEnabled = (): boolean => (fn.config.read(Config.HOSTC, 1) & Config.HST_EN) !== 0;
    fn.config.allow(Config.HOSTC, 1, 0x07);
    ctx.get(PciBus).attach(fn, slot === undefined ? {} : { device: slot });
    return {
      reset() {
        regs.reset();
        done.disarm();
        sync();
      },
      save: (): State => ({ regs: regs.save(), doneNs: done.deadlineNs ?? null }),
      restore(state: State) {
        regs.restore(state.regs);
        if (state.doneNs !== null) done.arm(state.doneNs);
      },
    };
  },
});
