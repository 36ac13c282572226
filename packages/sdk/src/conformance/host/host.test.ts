import { describe, it } from "vitest";
import { FakeClock, FakeDisk, FakeNet } from "../../testing/index.ts";
import { blockConformance, clockConformance, netConformance } from "./index.ts";

describe("FakeClock", () => {
  clockConformance({ describe, it }, () => {
    const clock = new FakeClock();
    return { clock, advanceTo: (nowNs) => clock.advanceTo(nowNs) };
  });
});

describe("FakeDisk", () => {
  for (const blockSize of [512, 4096]) {
    blockConformance({ describe, it }, () => Promise.resolve(new FakeDisk(100 * blockSize, { blockSize })));
  }
});

describe("FakeNet", () => {
  netConformance({ describe, it }, () => {
    const net = new FakeNet();
    return Promise.resolve({
      net,
      deliver: (frame) => {
        net.deliver(frame);
        return Promise.resolve();
      },
      sent: () => Promise.resolve(net.sent.shift() ?? new Uint8Array()),
    });
  });
});
