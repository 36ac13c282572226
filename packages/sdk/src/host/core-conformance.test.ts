import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createMachine,
  FaultyBlock,
  FileBlock,
  LoopbackNet,
  type Machine,
  MemoryBlock,
  PluginRegistry,
  RealtimeClock,
  VirtualClock,
} from "@northbridge/core";
import type { Clock } from "@northbridge/core/contracts";
import { FakeHypervisor } from "@northbridge/core/testing";
import { afterAll, beforeAll, describe, it } from "vitest";
import { blockConformance, clockConformance, netConformance } from "../conformance/host/index.ts";
import { definePlugin } from "../define.ts";
import { recordedPlugin } from "../recording/index.ts";
import { ReloadableDevice } from "../reload/index.ts";

describe("VirtualClock", () => {
  clockConformance({ describe, it }, () => {
    const clock = new VirtualClock();
    return {
      clock,
      advanceTo: (nowNs) => {
        clock.skipTo(nowNs);
        clock.runDue();
      },
    };
  });
});

describe("RealtimeClock", () => {
  clockConformance({ describe, it }, () => {
    let hostNs = 0;
    const clock = new RealtimeClock({ nowNs: () => hostNs, wallMs: () => 0 });
    clock.resume();
    return {
      clock,
      advanceTo: (nowNs) => {
        hostNs += Math.max(0, nowNs - clock.nowNs());
        clock.runDue();
      },
    };
  });
});

type Adapt = NonNullable<Parameters<typeof createMachine>[0]["adapt"]>;

/** What a machine may put between a device and the clock. */
const adapters: Readonly<Record<string, Adapt>> = {
  "a device": (spec) => spec,
  "a recorded device": (spec) => recordedPlugin(spec, () => undefined),
  "a device whose code can be replaced": (spec) => new ReloadableDevice(spec).spec,
};

describe.each(Object.entries(adapters))("the clock of %s in a machine", (_name, adapt) => {
  const clock = new VirtualClock();
  let shown: Clock | undefined;
  let machine: Machine;
  beforeAll(async () => {
    const device = definePlugin({
      name: "test/clock",
      config: { "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) } },
      setup(ctx) {
        shown = ctx.clock;
        return {};
      },
    });
    machine = await createMachine({
      config: { machine: "bare-1", memory: { mib: 1 }, devices: [device({})] },
      hypervisor: new FakeHypervisor([]),
      registry: new PluginRegistry(),
      clock,
      adapt,
    });
  });
  afterAll(() => machine.stop());
  clockConformance({ describe, it }, () => ({
    clock: shown ?? clock,
    advanceTo: (nowNs) => {
      clock.skipTo(nowNs);
      clock.runDue();
    },
  }));
});

const DISK_BYTES = 2 ** 16;

describe("MemoryBlock", () => {
  blockConformance({ describe, it }, () =>
    Promise.resolve(new MemoryBlock(new Uint8Array(DISK_BYTES), { readOnly: false })),
  );
});

describe("FaultyBlock", () => {
  blockConformance({ describe, it }, () => {
    const disk = new MemoryBlock(new Uint8Array(DISK_BYTES), { readOnly: false });
    return Promise.resolve(new FaultyBlock(disk, { clock: new VirtualClock(), latencyUs: 0, faults: [] }));
  });
});

describe("FileBlock", () => {
  let directory = "";
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "northbridge-block-"));
  });
  afterAll(() => rm(directory, { recursive: true }));
  blockConformance({ describe, it }, async () => {
    const path = join(directory, "disk.img");
    await writeFile(path, new Uint8Array(DISK_BYTES));
    return FileBlock.open(path, { readOnly: false });
  });
});

/** What is sent comes back: the other end of the cable is the link itself. */
describe("LoopbackNet", () => {
  netConformance({ describe, it }, () => {
    const net = new LoopbackNet();
    const settle = (): Promise<void> => Promise.resolve().then(() => undefined);
    return Promise.resolve({
      net,
      deliver: (frame) => {
        net.send([frame]);
        return settle();
      },
      sent: () => {
        const { promise, resolve } = Promise.withResolvers<Uint8Array>();
        let isTaken = false;
        net.connect((frame) => {
          if (isTaken) return false;
          isTaken = true;
          resolve(frame);
          return true;
        });
        net.resume();
        return promise;
      },
    });
  });
});
