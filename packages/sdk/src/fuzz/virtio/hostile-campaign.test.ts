import { expect, it } from "vitest";
import { type ConfigSchema, definePlugin, type DeviceEntry } from "../../index.ts";
import { type DescriptorChain, serve, type VirtioDevice, type VirtQueue } from "../../virtio/index.ts";
import { VirtioTransport } from "../../virtio/virtio-device.ts";
import { fuzzVirtioDevice, hostileTrial } from "./hostile-campaign.ts";

const NoConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
};

type Answer = (queue: VirtQueue, chain: DescriptorChain) => void;
const fill: Answer = (queue, chain) => {
  queue.push(chain, chain.write(0, new Uint8Array(chain.writableBytes).fill(7)));
};

/** A plugin of a device that answers requests so. */
function plugin(answer: Answer, others: Partial<VirtioDevice> = {}): DeviceEntry {
  const device = (): VirtioDevice => {
    let find: (index: number) => VirtQueue | undefined = () => undefined;
    return {
      deviceId: 4,
      features: [],
      queues: [8],
      config: new Uint8Array(0),
      start: (session) => {
        find = (index) => session.queue(index);
      },
      notify(index) {
        const queue = find(index);
        if (queue === undefined) return;
        serve(queue, (chain) => {
          answer(queue, chain);
        });
      },
      reset: () => undefined,
      save: () => undefined,
      restore: () => undefined,
      ...others,
    };
  };
  return definePlugin({
    name: "test/odd",
    config: NoConfig,
    setup: (ctx) => ctx.get(VirtioTransport).attach(ctx, device()),
  })();
}

it.each<[string, DeviceEntry, RegExp]>([
  [
    "throws",
    plugin((queue, chain) => {
      if (chain.readableBytes > 16) throw new RangeError("too long");
      fill(queue, chain);
    }),
    /^hostile driver: device odd: notify of queue 0: too long \(seed/,
  ],
  [
    "says that it wrote more than it did",
    plugin((queue, chain) => {
      queue.push(chain, chain.writableBytes + 1);
    }),
    /^hostile driver: queue 0: (\d+) bytes are said to be written, where there is room for \d+/,
  ],
  [
    "does not say what it wrote",
    plugin((queue, chain) => {
      for (const part of chain.writable()) part.fill(7);
      queue.push(chain, chain.writableBytes);
    }),
    /^hostile driver: the device wrote without a word to the machine: 0x/,
  ],
  [
    "does not end a reset",
    plugin(fill, { reset: () => new Promise<void>(() => undefined) }),
    /^hostile driver: a reset does not end/,
  ],
])("finds a device that %s, and prints a test that does", async (_what, entry, message) => {
  const found = await fuzzVirtioDevice({ create: () => entry }).then(
    () => "",
    (error: unknown) => String(error).replace(/^Error: /, ""),
  );
  expect(found).toMatch(message);
  const [, rings = "", operations = ""] = /\}, (\{.*\}), \[\n([^]*) {2}\]\);/.exec(found) ?? [];
  const program = JSON.parse(`[${operations.replace(/,\s*$/, "")}]`) as Parameters<typeof hostileTrial>[2];
  await expect(hostileTrial({ create: () => entry }, JSON.parse(rings) as object, program)).rejects.toThrow(
    /^hostile driver: (.*) \(seed/.exec(found)?.[1],
  );
});

it("finds nothing in a device that keeps to its buffers", async () => {
  await fuzzVirtioDevice({ create: () => plugin(fill) }, { runs: 20 });
  const add = { queue: 0, head: [1], misplaced: false, indirect: false, notify: true } as const;
  const program = [
    { do: "add", ...add, buffers: [[16], [512]] },
    { do: "collect", queue: 0 },
  ] as const;
  expect(await hostileTrial({ create: () => plugin(fill) }, { packed: true }, program)).toEqual({
    operations: 2,
    requests: 1,
  });
});
