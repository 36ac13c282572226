import type { GuestMemory } from "@northbridge/core/contracts";
import fc from "fast-check";
import { BenchPciBus } from "../../bench/bench-pci.ts";
import { PciBus } from "../../pci/pci-bus.ts";
import { FakeClock } from "../../testing/fake-clock.ts";
import { FakeMachine } from "../../testing/fake-machine.ts";
import { FakeMemory } from "../../testing/fake-memory.ts";
import { type VirtioDevice, VirtioTransport } from "../../virtio/virtio-device.ts";
import type { DeviceUnderTest } from "../device-under-test.ts";
import type { DrivenHost, DrivenVirtioDevice, RequestShape } from "./driven-device.ts";

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
const u64 = (value: number): number[] => [...u32(value >>> 0), ...u32(Math.floor(value / 2 ** 32))];

// Headers of most kinds begin with a word or a few that say what is wanted, and then where.
const word = fc.oneof(fc.nat(15), fc.constantFrom(0, 1, 0x100, 0xffff, 0xffff_ffff));
const place = fc.oneof(fc.nat(8), fc.constantFrom(0, 63, 64, 65, 2 ** 32, 2 ** 54, 2 ** 63));
const head = fc.oneof(
  fc.tuple(word, place).map(([kind, where]) => [...u32(kind), ...u32(0), ...u64(where)]),
  fc.array(word, { maxLength: 8 }).map((words) => words.flatMap(u32)),
  fc.array(fc.nat(255), { maxLength: 24 }),
);
const lengths = [1, 4, 8, 12, 16, 20, 64, 511, 512, 513, 1024, 2048];
const shapes: readonly RequestShape[] = [
  [[16], [512, 1]],
  [[16], [1024, 1]],
  [[16], [511, 1]],
  [[16, 512], [1]],
  [[16], [1]],
  [[16], []],
  [[4], [4]],
  [[], [64]],
  [[64], []],
  [[12, 512], []],
];

/** The virtio device that a plugin makes, for hostile drivers that know nothing of it; undefined where it makes none. */
export async function drivenPlugin(subject: DeviceUnderTest): Promise<DrivenVirtioDevice | undefined> {
  const found = await attached(subject, new FakeMemory(1 << 16));
  if (found === undefined) return undefined;
  const host = async (memory: GuestMemory): Promise<DrivenHost> => {
    const { device, clock } = (await attached(subject, memory)) ?? found;
    return {
      device: () => device,
      act: (choice) => {
        clock.advance((choice % 64) * 1e7);
      },
      answers: { answerAll: () => answered(clock) },
    };
  };
  return {
    name: found.name,
    host,
    head,
    lengths,
    shapes,
  };
}

const TURNS = 20;
const MOST_DEADLINES = 64;

/** Lets host ends that take time by the machine's clock have done. */
async function answered(clock: FakeClock): Promise<void> {
  for (let deadlines = 0; deadlines < MOST_DEADLINES; deadlines++) {
    for (let turn = 0; turn < TURNS; turn++) await Promise.resolve();
    const next = clock.nextDeadlineNs();
    if (next === Infinity) return;
    clock.advanceTo(Math.max(next, clock.nowNs()));
  }
}

interface Attached {
  readonly name: string;
  readonly device: VirtioDevice;
  readonly clock: FakeClock;
}

/** Sets the plugin up where a transport takes what it attaches. */
async function attached(subject: DeviceUnderTest, memory: GuestMemory): Promise<Attached | undefined> {
  const clock = new FakeClock();
  const machine = new FakeMachine({ memory, clock });
  machine.provide(PciBus, new BenchPciBus({ mmio: machine.mmio, ports: machine.portBus }));
  let found: Attached | undefined;
  machine.provide(VirtioTransport, {
    attach: (ctx, device) => {
      found = { name: ctx.id, device, clock };
      return {};
    },
  });
  subject.prepare?.(machine);
  const entry = subject.create();
  const name = entry.spec.name.slice(entry.spec.name.lastIndexOf("/") + 1);
  await machine.add({ ...entry, id: entry.id ?? name });
  return found;
}
