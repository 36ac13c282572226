import { Console } from "@northbridge/sdk";
import type { DeviceUnderTest } from "@northbridge/sdk/fuzz";
import { checker } from "../edu-pci/edu-checker.ts";
import { FakeCharBackend } from "@northbridge/sdk/testing";

/** A bug planted by replacing a piece of an example's source, which must be there once. */
export interface Bug {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

export interface BuggyDevice {
  /** Relative to this directory. */
  readonly source: string;
  readonly plugin: string;
  /** Services that it needs. */
  readonly prepare?: DeviceUnderTest["prepare"];
  /** Beside its register map. */
  readonly checker?: DeviceUnderTest["checker"];
  /** The module's function that makes the device without a transport: judged by the clauses of virtio's specification. */
  readonly virtio?: string;
  readonly bugs: readonly Bug[];
}

const bug = (name: string, from: string, to: string): Bug => ({ name, from, to });

export const BUGGY: readonly BuggyDevice[] = [
  {
    source: "counter.ts",
    plugin: "counter",
    bugs: [
      bug("drops a w1c", "state.status &= ~value;", ""),
      bug("stores instead of w1c", "state.status &= ~value;", "state.status = value & 3;"),
      bug("w1c clears all", "state.status &= ~value;", "state.status = 0;"),
      bug("does not mask reserved bits", "state.ctrl = value & 3;", "state.ctrl = value;"),
      bug("masks a bit too few", "value & 0xffff;", "value & 0x1ffff;"),
      bug("masks a bit too many", "value & 0xffff;", "value & 0x7fff;"),
      bug(
        "lets the guest write a counter",
        "case 0x24:",
        "case 0x08:\n          state.count = value;\n          break;\n        case 0x24:",
      ),
      bug(
        "shows a write-only register",
        "default:\n          return 0;",
        "case 0x24:\n          return state.key;\n        default:\n          return 0;",
      ),
      bug("does not clear on read", "state.errors = 0;\n", "\n"),
      bug("has another reset value", "limit: 100,", "limit: 101,"),
      bug(
        "is off by one in an index check",
        "if (offset >= 0x10 && offset < 0x20) return",
        "if (offset >= 0x10 && offset <= 0x20) return",
      ),
      bug("checks an index one short", "offset < 0x20) state.scratch", "offset < 0x1c) state.scratch"),
      bug(
        "gives a signed value",
        "return state.scratch[(offset - 0x10) >> 2] as number",
        "return (state.scratch[(offset - 0x10) >> 2] as number) | 0",
      ),
      bug(
        "answers wider than it was asked",
        "width === 4 && offset % 4 === 0 ? read(offset) : 0",
        "offset % 4 === 0 ? read(offset) : 0",
      ),
      bug(
        "throws at what it does not know",
        "default:\n          return 0;",
        'default:\n          throw new Error("what?");',
      ),
      bug("pulses its level", "line.set(isRaised());", "line.set(isRaised());\n      line.set(false);"),
      bug(
        "does not drop its line when acknowledged",
        "break;\n        case 0x0c:",
        "return;\n        case 0x0c:",
      ),
      bug("does not raise its line from the timer", "start();\n      sync();", "start();"),
      bug("forgets a register in save", "...state,", "...state, key: 0, errors: 0,"),
      bug(
        "forgets its array in save",
        "scratch: [...state.scratch],\n        deadlineNs",
        "scratch: [0, 0, 0, 0],\n        deadlineNs",
      ),
      bug("forgets its deadline in save", "deadlineNs: timer.deadlineNs ?? null", "deadlineNs: null"),
      bug("saves what JSON cannot hold", "timer.deadlineNs ?? null", "timer.deadlineNs as never"),
      bug("forgets its deadline in restore", "if (deadlineNs !== null) timer.arm(deadlineNs);", ""),
      bug("restarts its period in restore", "timer.arm(deadlineNs);", "start();"),
      bug("forgets its line in restore", "line.adopt(isRaised());", ""),
      bug("raises an edge in restore", "line.adopt(isRaised());", "line.set(isRaised());"),
      bug("resets but for its state", "state = powerOn();\n", "\n"),
      bug(
        "resets but for one register",
        "state = powerOn();\n",
        "state = { ...powerOn(), limit: state.limit };\n",
      ),
      bug("resets but for its timer", "timer.disarm();\n        line", "line"),
      bug("resets but for its line", "line.set(false);\n      },", "},"),
    ],
  },
  {
    source: "../thermometer/thermometer.ts",
    plugin: "thermometer",
    bugs: [
      bug("does not follow its enable bit", "sync: () => line.set(isAlarm()) }", "}"),
      bug("forgets its registers in restore", "regs.restore(state.regs);", ""),
      bug("forgets its timer in restore", "if (state.nextNs !== null) timer.arm(state.nextNs);", ""),
      bug("forgets its line in restore", "line.adopt(isAlarm());", ""),
      bug("resets but for its registers", "regs.reset();\n", "\n"),
      bug("resets but for its timer", "timer.disarm();\n        line", "line"),
      bug("measures in fractions", "regs.values.TEMP += STEP;", "regs.values.TEMP += STEP + 0.5;"),
    ],
  },
  {
    source: "../edu-pci/edu.ts",
    plugin: "edu",
    checker,
    bugs: [
      bug(
        "is off by one in a length check",
        "own + count <= BUFFER.length",
        "own + count <= BUFFER.length + 1",
      ),
      bug("checks a length one short", "own + count <= BUFFER.length", "own + count < BUFFER.length"),
      bug("is off by one at its memory's begin", "own >= 0", "own >= -1"),
      bug("checks its memory's begin one short", "own >= 0", "own > 0"),
      bug("transfers one byte less", "own, own + count);", "own, own + count - 1);"),
      bug("ignores bus master", "fn.isBusMaster && ", ""),
      bug("does not mask where it writes to", "(target & DMA_MASK) >>> 0", "target"),
      bug("does not mask where it reads from", "(source & DMA_MASK) >>> 0", "source"),
      bug("acknowledges all", "(regs.values.IRQ_STATUS & ~written) >>> 0", "0"),
      bug("interrupts after every transfer", "if ((command & DMA_CMD.IRQ) !== 0) raise", "raise"),
      bug("never ends a transfer", "      regs.values.DMA_CMD &= ~DMA_CMD.RUN;\n", ""),
      bug("begins a transfer anew in the midst of one", " && (previous & DMA_CMD.RUN) === 0", ""),
      bug("lets registers of a transfer be written", "if (isRunning()) regs.values[name] = previous;", ""),
      bug("forgets its memory in save", "buffer: [...buffer]", "buffer: [...new Uint8Array(BUFFER.length)]"),
      bug("forgets its DMA in restore", "if (state.dmaNs !== null) dmaTimer.arm(state.dmaNs);", ""),
      bug(
        "forgets its computation in restore",
        "if (state.factNs !== null) factTimer.arm(state.factNs);",
        "",
      ),
      bug("resets but for its DMA", "dmaTimer.disarm();\n", "\n"),
      bug(
        "gives a signed factorial",
        "(regs.values.FACT > 34 ? 0 : product) >>> 0",
        "regs.values.FACT > 34 ? 0 : product",
      ),
      bug("gives a signed inverse", "regs.values.LIVE = ~stored >>> 0", "regs.values.LIVE = ~stored"),
    ],
  },
  {
    source: "../primecell/pl011.ts",
    plugin: "pl011",
    prepare: (machine) => void machine.provide(Console, new FakeCharBackend()),
    bugs: [
      bug("forgets its FIFO in save", "fifo: [...fifo]", "fifo: []"),
      bug("forgets its FIFO in restore", "fifo.splice(0, fifo.length, ...state.fifo);", ""),
      bug("forgets its timeout in save", "timeout.deadlineNs ?? null", "null"),
      bug(
        "forgets its timeout in restore",
        "if (state.timeoutNs !== null) timeout.arm(state.timeoutNs);",
        "",
      ),
      bug("forgets its line in restore", "line.adopt(isRaised());", ""),
      bug("resets but for its FIFO", "fifo.length = 0;\n        timeout", "timeout"),
      bug("resets but for its timeout", "timeout.disarm();\n        line", "line"),
      bug("resets but for its line", "line.set(false);\n      },", "},"),
      bug("does not follow its mask", "      sync,\n", "\n"),
      bug("sends what is wider than a byte back", "byte & (2 ** width - 1)", "byte | 0x100"),
    ],
  },
  {
    source: "../primecell/pl061.ts",
    plugin: "pl061",
    bugs: [
      bug("forgets its pins in save", "...state }),", "...state, data: 0 }),"),
      bug("forgets its edges in restore", "state = rest;", "state = { ...rest, edges: 0 };"),
      bug("forgets its line in restore", "line.adopt(isRaised());", ""),
      bug(
        "resets but for its pins",
        "state = { ...powerOn(), inputs: state.inputs, data: state.inputs };",
        "",
      ),
      bug("resets but for its line", "line.set(false);\n        drive", "drive"),
    ],
  },
  {
    source: "../virtio-thermo/virtio-thermo.ts",
    plugin: "virtioThermo",
    virtio: "thermometer",
    // Not here, since nobody can tell: a used length without the status byte (§2.7.8.2 lets a device say less than it
    // wrote); a session that outlives a reset, and a notification without a queue (transports keep both away); a sector
    // that is written too many (it ends with the buffer, before the status); a request given back twice (the queue takes
    // the first).
    bugs: [
      bug("is off by one in a length check", "> SECTORS) return", "> SECTORS + 1) return"),
      bug("checks a length one short", "> SECTORS) return", ">= SECTORS) return"),
      bug("checks where a read begins alone", "chain.readU64(8) + room / SECTOR", "chain.readU64(8)"),
      bug("takes half sectors", "room % SECTOR !== 0 || ", ""),
      bug("tells a capacity one too large", "config[0] = SECTORS", "config[0] = SECTORS + 1"),
      bug(
        "says that it wrote more than it did",
        "queue.push(chain, room + 1)",
        "queue.push(chain, room + 2)",
      ),
      bug("says that it wrote what it did not", "queue.push(chain, room + 1)", "queue.push(chain, 513)"),
      bug("puts the status one byte short", "chain.writeU8(room, ", "chain.writeU8(room - 1, "),
      bug("puts the status one byte too far", "chain.writeU8(room, ", "chain.writeU8(room + 1, "),
      bug("fills a sector less", "at < room; at", "at < room - SECTOR; at"),
      bug("takes writes", "type === WRITE ? IO_ERROR", "type === WRITE ? OK"),
      bug("knows every request", "UNSUPPORTED;", "OK;"),
      bug("does not offer to be read-only", "features: [READ_ONLY]", "features: []"),
      bug(
        "throws where there is no room",
        "const room = chain.writableBytes - 1;",
        "const room = chain.writable()[0]!.length - 1;",
      ),
      bug(
        "throws at a request that no driver makes",
        "const room = chain.writableBytes - 1;",
        'if (chain.writableBytes === 0) throw new Error("no room");\n        const room = chain.writableBytes - 1;',
      ),
      bug("is async", "notify() {", "async notify() {"),
      bug(
        "keeps a request",
        "queue.push(chain, room + 1);",
        "if (room !== 1024) queue.push(chain, room + 1);",
      ),
      bug(
        "answers one request of many",
        "serve(queue, (chain) => {",
        "const one = queue.pop();\n      [one!].filter(Boolean).forEach((chain) => {",
      ),
    ],
  },
];
