import { attachVirtio } from "@northbridge/devices-virtio";
import { type Clock, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { type DescriptorChain, serve, type VirtioDevice, type VirtioSession } from "@northbridge/sdk/virtio";
import * as v from "valibot";

const [READ, WRITE] = [0, 1];
const [OK, IO_ERROR, UNSUPPORTED] = [0, 1, 2];
const [READ_ONLY, SECTOR, SECTORS] = [5, 512, 8];

/**
 * A thermometer as a small read-only disk (virtio 1.3 §5.2), so that every system has its driver: each sector says, as
 * text, how warm it is right now. It gets half a degree warmer every second.
 */
export function thermometer(clock: Clock, celsius: number): VirtioDevice {
  let session: VirtioSession | undefined;
  const config = new Uint8Array(8);
  config[0] = SECTORS;
  const measure = (): Uint8Array => {
    const degrees = celsius + Math.floor(clock.nowNs() / 1e9) / 2;
    return Uint8Array.from(degrees.toFixed(1).padEnd(SECTOR - 1) + "\n", (char) => char.charCodeAt(0));
  };
  const answer = (chain: DescriptorChain, room: number): number => {
    const type = chain.readU32(0);
    if (type !== READ) return type === WRITE ? IO_ERROR : UNSUPPORTED;
    if (room % SECTOR !== 0 || chain.readU64(8) + room / SECTOR > SECTORS) return IO_ERROR;
    const text = measure();
    for (let at = 0; at < room; at += SECTOR) chain.write(at, text);
    return OK;
  };
  return {
    deviceId: 2,
    features: [READ_ONLY],
    queues: [64],
    config,
    start: (started) => void (session = started),
    notify() {
      const queue = session?.queue(0);
      if (queue === undefined) return;
      serve(queue, (chain) => {
        const room = chain.writableBytes - 1;
        chain.writeU8(room, answer(chain, room)); // the last byte is the status
        queue.push(chain, room + 1);
      });
    },
    reset: () => void (session = undefined),
    save: () => undefined,
    restore: () => undefined,
  };
}

export const virtioThermo: DevicePlugin<{ celsius?: number | undefined }> = definePlugin({
  name: "@example/devices/virtioThermo",
  config: v.strictObject({ celsius: v.optional(v.number(), 20) }),
  setup: (ctx, { celsius }) => attachVirtio(ctx, thermometer(ctx.clock, celsius), {}),
});
