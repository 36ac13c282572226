import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetBackend } from "@northbridge/sdk";
import { type LinkUnderTest, netConformance } from "@northbridge/sdk/conformance";
import { afterAll, describe, it } from "vitest";
import { capture, ControlledLink, dgram, ethernetSwitch, hub, serveSwitch, stream } from "../src/index.ts";

const directory = mkdtempSync(join(tmpdir(), "northbridge-net-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});
let count = 0;
const newPath = (): string => join(directory, `${count++}`);

/** The two ends of a cable. */
interface Cable {
  readonly net: NetBackend;
  readonly far: NetBackend;
}

async function streams(): Promise<Cable> {
  const path = newPath();
  const net = await stream({ path, listen: true });
  const far = await stream({ path });
  await new Promise<void>((resolve) => {
    net.watchLink((isUp) => {
      if (isUp) resolve();
    });
  });
  return { net, far };
}

/** Two sockets that stay: each finds the other when it sends. */
async function datagrams(): Promise<Cable> {
  const [one, other] = [newPath(), newPath()];
  const net = await dgram({ local: one, remote: other });
  return { net, far: await dgram({ local: other, remote: one }) };
}

/** A port of a switch that is in another process, as far as it can tell. */
async function served(): Promise<Cable> {
  const path = newPath();
  const fabric = ethernetSwitch();
  const server = await serveSwitch(fabric, { path });
  const net = await stream({ path });
  const far = fabric.port();
  const close = far.close.bind(far);
  far.close = async () => {
    await close();
    await server.close();
  };
  await new Promise<void>((resolve) => {
    net.watchLink((isUp) => {
      if (isUp) resolve();
    });
  });
  return { net, far };
}

function ports(fabric: ReturnType<typeof hub>): Promise<Cable> {
  return Promise.resolve({ net: fabric.port(), far: fabric.port() });
}

const links: Readonly<Record<string, () => Promise<Cable>>> = {
  "a port of a hub": () => ports(hub()),
  "a port of a switch": () => ports(ethernetSwitch()),
  "a stream": streams,
  datagrams: datagrams,
  "a stream to a switch": served,
  "a capture": async () => {
    const { net, far } = await ports(hub());
    return { net: await capture(net, { path: newPath() }), far };
  },
  "a controlled link": async () => {
    const { net, far } = await ports(hub());
    return { net: new ControlledLink(net), far };
  },
};

/** A back end that says when it has offered a frame, and whether it now waits for its consumer. */
class Watched implements NetBackend {
  readonly #net: NetBackend;
  readonly #far: NetBackend;
  #offered: (() => void) | undefined;
  #isWaiting = false;

  constructor({ net, far }: Cable) {
    this.#net = net;
    this.#far = far;
  }

  get mtu(): number {
    return this.#net.mtu;
  }

  send(frame: readonly Uint8Array[]): boolean {
    return this.#net.send(frame);
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#net.connect((frame) => {
      const isTaken = receive(frame);
      this.#isWaiting = !isTaken;
      this.#offered?.();
      return isTaken;
    }, onWritable);
  }

  resume(): void {
    this.#isWaiting = false;
    this.#net.resume();
  }

  async close(): Promise<void> {
    await this.#net.close();
    await this.#far.close();
  }

  /** Resolves when the consumer was offered the frame, or is not going to be before it calls `resume`. */
  async deliver(frame: Uint8Array): Promise<void> {
    const offered = new Promise<void>((resolve) => (this.#offered = resolve));
    this.#far.send([frame]);
    if (!this.#isWaiting) await offered;
  }
}

/** What arrives at the far end, in order. */
function arrivals(far: NetBackend): () => Promise<Uint8Array> {
  const frames: Uint8Array[] = [];
  let look = (): void => undefined;
  far.connect(
    (frame) => {
      frames.push(frame.slice());
      look();
      return true;
    },
    () => undefined,
  );
  return () =>
    new Promise((resolve) => {
      look = () => {
        const frame = frames.shift();
        if (frame === undefined) return;
        look = () => undefined;
        resolve(frame);
      };
      look();
    });
}

describe.each(Object.entries(links))("%s", (_name, create) => {
  netConformance({ describe, it }, async (): Promise<LinkUnderTest> => {
    const cable = await create();
    const net = new Watched(cable);
    return { net, deliver: (frame) => net.deliver(frame), sent: arrivals(cable.far) };
  });
});
