import { VirtioBlk, VirtioNet } from "@northbridge/devices-virtio";
import type { BlockBackend, NetBackend } from "@northbridge/sdk";
import { FakeMemory, VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";

/**
 * Requests a second of device models through the driver's side of a queue, driver included, on this thread. Prints and
 * asserts nothing. `node --conditions=northbridge-source packages/devices-virtio/scripts/bench.ts [SECONDS]`
 */
const SECONDS = Number(process.argv[2] ?? 2);
const DEPTH = 32;
/** Registers that a driver touches for an interrupt; a notification is one access everywhere (virtio 1.3 §4.1.5, §4.2.3). */
const EXITS_OF_INTERRUPT = { "PCI with MSI-X": 0, "PCI with INTx": 1, MMIO: 2 };

const OK = Promise.resolve();
const store = new Uint8Array(64 << 20);
const memoryDisk: BlockBackend = {
  size: store.length,
  blockSize: 512,
  readOnly: false,
  read: (offset, into) => {
    let at = offset;
    for (const part of into) {
      part.set(store.subarray(at, at + part.length));
      at += part.length;
    }
    return OK;
  },
  write: () => OK,
  flush: () => OK,
  close: () => OK,
};
/** Takes frames and forgets them. */
const sink: NetBackend = {
  mtu: 1500,
  send: () => true,
  connect: () => undefined,
  resume: () => undefined,
  close: () => OK,
};

interface Load {
  readonly name: string;
  readonly bench: VirtioBench;
  readonly memory: FakeMemory;
  readonly queue: number;
  /** Puts request `index` of a batch into the queue. */
  readonly add: (index: number) => void;
}

function netTransmit(options: VirtioBenchOptions): Load {
  const device = new VirtioNet({ backend: sink, mac: Uint8Array.of(0x52, 0x54, 0, 1, 2, 3) });
  const memory = new FakeMemory(1 << 20);
  const bench = new VirtioBench(device, { ...options, memory }).start();
  const frames = Array.from({ length: DEPTH }, () => [{ gpa: bench.alloc(1512), length: 1512 }]);
  const queue = bench.queue(1);
  return {
    name: "net tx 1500 B",
    bench,
    memory,
    queue: 1,
    add: (index) => void queue.add(frames[index] ?? [], []),
  };
}

function blkRead(options: VirtioBenchOptions): Load {
  const device = new VirtioBlk({ backend: memoryDisk, serial: "bench" });
  const memory = new FakeMemory(1 << 20);
  const bench = new VirtioBench(device, { ...options, memory }).start();
  const requests = Array.from({ length: DEPTH }, (_, index) => {
    const header = bench.alloc(16);
    memory.writeU32(header + 8, 8 * index * 64); // sector; the type is IN
    return {
      readable: [{ gpa: header, length: 16 }],
      writable: [
        { gpa: bench.alloc(4096), length: 4096 },
        { gpa: bench.alloc(1), length: 1 },
      ],
    };
  });
  const queue = bench.queue(0);
  return {
    name: "blk read 4 KiB",
    bench,
    memory,
    queue: 0,
    add: (index) => void queue.add(requests[index]?.readable ?? [], requests[index]?.writable ?? []),
  };
}

async function measure({ name, bench, memory, queue, add }: Load, kind: string): Promise<void> {
  const driver = bench.queue(queue);
  const round = async (): Promise<number> => {
    for (let index = 0; index < DEPTH; index++) add(index);
    bench.kick(queue);
    let done = driver.collect().length;
    while (done < DEPTH) {
      await OK; // the disk's promises
      done += driver.collect().length;
    }
    memory.writes.length = 0; // a record that nobody reads
    return done;
  };
  for (let i = 0; i < 2000; i++) await round();
  const before = { notifications: bench.notifications, interrupts: bench.interrupts[queue] ?? 0 };
  let requests = 0;
  const start = performance.now();
  while (performance.now() - start < SECONDS * 1000) requests += await round();
  const seconds = (performance.now() - start) / 1000;
  const per = (count: number): string => (count / requests).toFixed(3);
  const notifications = bench.notifications - before.notifications;
  const interrupts = (bench.interrupts[queue] ?? 0) - before.interrupts;
  const exits = Object.entries(EXITS_OF_INTERRUPT).map(
    ([transport, ofInterrupt]) => `${per(notifications + ofInterrupt * interrupts)} on ${transport}`,
  );
  console.log(
    `${name}, ${kind}: ${Math.round(requests / seconds / 1000)}k requests/s,`,
    `${per(notifications)} notifications and ${per(interrupts)} interrupts a request, depth ${DEPTH};`,
    `exits a request: ${exits.join(", ")}`,
  );
}

for (const packed of [false, true]) {
  for (const make of [netTransmit, blkRead]) await measure(make({ packed }), packed ? "packed" : "split");
}
