import { expect, it } from "vitest";
import { VirtioBench } from "../testing/virtio/index.ts";
import { bit, bits, registerMap, virtioConfig } from "./index.ts";

const map = registerMap("knob", {
  POSITION: { offset: 0, width: 2, access: "ro", reset: 0x1234 },
  MODE: { offset: 2, width: 1, fields: { FAST: bit(0), STEP: bits(1, 3) } },
  EVENTS: { offset: 4, access: "w1c", reset: 3 },
});

it("is a virtio device's configuration space", () => {
  const written: number[] = [];
  const knob = virtioConfig(map, { hooks: { MODE: { write: (stored) => void written.push(stored) } } });
  const bench = new VirtioBench({
    deviceId: 42,
    features: [],
    queues: [],
    config: knob.config,
    writeConfig: knob.writeConfig,
    start: () => undefined,
    notify: () => undefined,
    reset: () => undefined,
    save: () => knob.regs.save(),
    restore: () => undefined,
  }).start();
  const { endpoint } = bench;
  const read = (offset: number, width: 1 | 2 | 4): number => endpoint.readConfig(offset, width);
  expect([read(0, 2), read(2, 1), read(4, 4), read(0, 4)]).toEqual([0x1234, 0, 3, 0x1234]);
  endpoint.writeConfig(0, 2, 0xffff);
  endpoint.writeConfig(2, 1, 0xff);
  endpoint.writeConfig(4, 4, 1);
  expect([read(0, 2), read(2, 1), read(4, 4), written]).toEqual([0x1234, 0x0f, 2, [0x0f]]);
  knob.regs.values.POSITION = 7;
  knob.publish();
  expect(read(0, 2)).toBe(7);
  expect(bench.endpoint.status & 4).toBe(4);
});
