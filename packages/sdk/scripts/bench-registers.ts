/**
 * What a register access costs: the decoder that a register map compiles to, beside one written by hand, recorded, and
 * behind buses; and what a test bench and a virtqueue's round trip cost.
 * `node --conditions=northbridge-source packages/sdk/scripts/bench-registers.ts`
 */
import { Bench } from "tinybench";
import type { IoHandler, IoWidth } from "@northbridge/core/contracts";
import { bit, registerMap } from "../src/index.ts";
import { recordedDevice } from "../src/recording/index.ts";
import { testBench, VirtioBench } from "../src/testing/index.ts";
import { serve, type VirtioDevice, type VirtioSession } from "../src/virtio/index.ts";
import { definePlugin } from "../src/define.ts";

const map = registerMap("bench", {
  CTRL: { offset: 0, fields: { ENABLE: bit(0), IRQ: bit(1) } },
  STATUS: { offset: 4, access: "w1c", fields: { DONE: bit(0) } },
  COUNT: { offset: 8, access: "ro" },
  COMPARE: { offset: 12 },
  SCRATCH: { offset: 16, count: 4 },
});

/** The same device as its author would write it. */
class HandWritten implements IoHandler {
  #ctrl = 0;
  #status = 0;
  #count = 0;
  #compare = 0;
  readonly #scratch = new Uint32Array(4);
  level = false;

  read(offset: number, width: IoWidth): number {
    if (width !== 4) return 0;
    switch (offset) {
      case 0:
        return this.#ctrl;
      case 4:
        return this.#status;
      case 8:
        return ++this.#count;
      case 12:
        return this.#compare;
      case 16:
      case 20:
      case 24:
      case 28:
        return this.#scratch[(offset - 16) >> 2] ?? 0;
      default:
        return 0;
    }
  }

  write(offset: number, width: IoWidth, value: number): void {
    if (width !== 4) return;
    switch (offset) {
      case 0:
        this.#ctrl = value & 3;
        break;
      case 4:
        this.#status &= ~(value & 1);
        break;
      case 12:
        this.#compare = value;
        break;
      case 16:
      case 20:
      case 24:
      case 28:
        this.#scratch[(offset - 16) >> 2] = value;
        break;
    }
    this.level = (this.#ctrl & 2) !== 0 && this.#status !== 0;
  }
}

function compiled(): IoHandler {
  let count = 0;
  const line = { level: false };
  const { CTRL } = map.masks;
  const regs = map.create({
    hooks: { COUNT: { read: () => ++count } },
    sync: () => {
      line.level = (regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0;
    },
  });
  return regs.handler;
}

const ACCESSES = 8192;

/** A driver's mix: mostly reads of status and count, some writes. */
function drive(handler: IoHandler): number {
  let sum = 0;
  for (let i = 0; i < ACCESSES / 8; i++) {
    handler.write(0, 4, i & 3);
    sum += handler.read(4, 4);
    sum += handler.read(8, 4);
    handler.write(12, 4, i);
    sum += handler.read(12, 4);
    handler.write(4, 4, 1);
    sum += handler.read(16 + 4 * (i & 3), 4);
    handler.write(16 + 4 * (i & 3), 4, i);
  }
  return sum;
}

const hand = new HandWritten();
const fromMap = compiled();
const plugin = definePlugin<object, object>({
  name: "bench/device",
  config: { "~standard": { version: 1, vendor: "bench", validate: (value) => ({ value }) } },
  setup: (ctx) => {
    const regs = map.create();
    ctx.mapMmio({ base: 0xfe00_0000, length: map.length }, regs.handler);
    return regs;
  },
});
const bench = await testBench(plugin(), { registers: map });
const onBus: IoHandler = {
  read: (offset, width) => bench.mmio.read(0xfe00_0000 + offset, width),
  write: (offset, width, value) => {
    bench.mmio.write(0xfe00_0000 + offset, width, value);
  },
};

let recordedBytes = 0;
const recorded = await testBench(
  recordedDevice(plugin(), (bytes) => {
    recordedBytes += bytes.length;
  }),
  { registers: map },
);
const onRecordedBus: IoHandler = {
  read: (offset, width) => recorded.mmio.read(0xfe00_0000 + offset, width),
  write: (offset, width, value) => {
    recorded.mmio.write(0xfe00_0000 + offset, width, value);
  },
};

/** Gives every buffer back at once. */
class Echo implements VirtioDevice {
  readonly deviceId = 42;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [256];
  readonly config: Uint8Array = new Uint8Array();
  #session: VirtioSession | undefined;

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined) return;
    serve(queue, (chain) => {
      queue.push(chain, 0);
    });
  }

  reset(): void {
    this.#session = undefined;
  }

  save(): unknown {
    return undefined;
  }

  restore(): void {
    // Nothing is kept.
  }
}

const ROUND_TRIPS = 1024;
const roundTrips = (packed: boolean): (() => void) => {
  const virtio = new VirtioBench(new Echo(), { packed }).start();
  const gpa = virtio.alloc(4096);
  const queue = virtio.queue(0);
  return () => {
    let used = 0;
    for (let i = 0; i < ROUND_TRIPS; i++) {
      queue.add([{ gpa, length: 512 }], []);
      virtio.kick(0);
      used += queue.collect().length;
    }
    if (used !== ROUND_TRIPS) throw new Error(`${used} of ${ROUND_TRIPS} came back`);
    sink += used;
  };
};

const suite = new Bench({ time: 1000 });
let sink = 0;
suite.add("hand-written", () => {
  sink += drive(hand);
});
suite.add("register map", () => {
  sink += drive(fromMap);
});
suite.add("register map behind the test bench's bus", () => {
  sink += drive(onBus);
});
suite.add("recorded, behind the same bus", () => {
  sink += drive(onRecordedBus);
});
suite.add("split virtqueue", roundTrips(false));
suite.add("packed virtqueue", roundTrips(true));
suite.add("testBench()", async () => {
  await testBench(plugin(), { registers: map });
});
await suite.run();
for (const { name, result } of suite.tasks) {
  if (result.state !== "completed") throw new Error(`${name}: ${result.state}`);
  const ns = result.latency.p50 * 1e6;
  console.log(`${name}: ${figure(name, ns)}`);
}
function figure(name: string, ns: number): string {
  if (name === "testBench()") return `${(ns / 1000).toFixed(0)} µs`;
  if (name.includes("virtqueue"))
    return `${((ROUND_TRIPS / ns) * 1e6).toFixed(0)} thousand round trips a second`;
  return `${(ns / ACCESSES).toFixed(1)} ns an access`;
}
console.log(`${(recordedBytes / 2 ** 20).toFixed(0)} MiB recorded`);
if (Number.isNaN(sink)) console.log("never");
