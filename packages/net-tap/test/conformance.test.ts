import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetBackend } from "@northbridge/sdk";
import { netConformance, unpluggedConformance } from "@northbridge/sdk/conformance";
import { afterAll, describe, it } from "vitest";
import {
  capture,
  ControlledLink,
  dgram,
  DgramNet,
  ethernetSwitch,
  hub,
  serveSwitch,
  stream,
  Unplugged,
} from "../src/index.ts";
import { type Cable, cableUnderTest, turns } from "./cable-end.ts";
import { machine, open } from "./config-machine.ts";

const directory = mkdtempSync(join(tmpdir(), "northbridge-net-"));
afterAll(() => {
  rmSync(directory, { recursive: true });
});
let count = 0;
const newPath = (): string => join(directory, `${count++}`);

/** Resolves once a link has a peer, or has none. */
function linkIs(isWanted: boolean, net: NetBackend): Promise<void> {
  return new Promise((resolve) => {
    net.watchLink?.((isUp) => {
      if (isUp === isWanted) resolve();
    });
  });
}

async function streams(): Promise<Cable> {
  const path = newPath();
  const net = await stream({ path, listen: true });
  const far = await stream({ path });
  await linkIs(true, net);
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
  await linkIs(true, net);
  return { net, far: fabric.port(), close: () => server.close() };
}

/** The switch of a machine's config, which another machine has joined. */
async function switchOfConfig(): Promise<Cable> {
  const path = newPath();
  const net = await open("switch", { path }, machine().context);
  const far = await stream({ path });
  // The switch has a port for the peer once it has answered for it.
  await turns();
  return { net, far };
}

function ports(fabric: ReturnType<typeof hub>): Promise<Cable> {
  return Promise.resolve({ net: fabric.port(), far: fabric.port() });
}

const links: Readonly<Record<string, () => Promise<Cable>>> = {
  "a port of a hub": () => ports(hub()),
  "a port of a switch": () => ports(ethernetSwitch()),
  "a stream that listens": streams,
  "a stream that connects": async () => {
    const { net, far } = await streams();
    return { net: far, far: net };
  },
  "datagrams between Unix sockets": datagrams,
  "a stream to a switch": served,
  "the switch of a config": switchOfConfig,
  "a capture": async () => {
    const { net, far } = await ports(hub());
    return { net: await capture(net, { path: newPath() }), far };
  },
  "a controlled link": async () => {
    const { net, far } = await ports(hub());
    return { net: new ControlledLink(net), far };
  },
};

describe.each(Object.entries(links))("%s", (_name, create) => {
  netConformance({ describe, it }, async () => cableUnderTest(await create()));
});

/** The other end is a socket of the host, which says each datagram as it came. */
describe("datagrams over UDP", () => {
  netConformance({ describe, it }, async () => {
    const far = createSocket("udp4");
    const arrived: Uint8Array[] = [];
    far.on("message", (frame) => arrived.push(frame));
    far.bind(0, "127.0.0.1");
    await once(far, "listening");
    const net = await DgramNet.open({ local: "127.0.0.1:0", remote: `127.0.0.1:${far.address().port}` });
    const { port } = net;
    return {
      net,
      deliver: async (frame) => {
        await new Promise((resolve) => {
          far.send(frame, port, "127.0.0.1", resolve);
        });
        await turns();
      },
      sent: async () => {
        for (;;) {
          const frame = arrived.shift();
          if (frame !== undefined) return frame;
          await once(far, "message");
        }
      },
      close: () => new Promise((resolve) => void far.close(resolve)),
    };
  });
});

const unplugged: Readonly<Record<string, () => Promise<NetBackend>>> = {
  "a link that the host refused": () => Promise.resolve(new Unplugged()),
  "a link of a config that need not be there": () =>
    open("stream", { path: join(directory, "nobody"), required: false }, machine().context),
  "a stream that nobody has joined": () => stream({ path: newPath(), listen: true }),
  "a stream whose peer has gone": async () => {
    const { net, far } = await streams();
    await far.close();
    await linkIs(false, net);
    return net;
  },
};

describe.each(Object.entries(unplugged))("%s", (_name, create) => {
  unpluggedConformance({ describe, it }, create);
});
