import { netConformance, unpluggedConformance } from "@northbridge/sdk/conformance";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { capture, ControlledLink, tap, type TapNet } from "../src/index.ts";
import { cableUnderTest } from "./cable-end.ts";
import { namespaceObstacle, NetworkNamespace } from "./network-namespace.ts";

const obstacle = namespaceObstacle();
const BRIDGE = "br0";

describe.skipIf(obstacle !== undefined)(`taps${obstacle === undefined ? "" : `: ${obstacle}`}`, () => {
  let namespace: NetworkNamespace;
  beforeAll(async () => {
    namespace = await NetworkNamespace.make();
    // Its kernel says nothing by itself, and forwards what it is given from the first frame on.
    await namespace.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    await namespace.run("ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0");
    await namespace.run("ip", "link", "set", BRIDGE, "up");
  });
  afterAll(() => namespace[Symbol.asyncDispose]());

  /** A port of the namespace's bridge. */
  const port = (queues: number): TapNet => tap({ namespace: namespace.name, bridge: BRIDGE, queues });
  const shapes = {
    "a tap": port,
    "a capture of a tap": (queues: number) => capture(port(queues), { path: "/dev/null" }),
    "a controlled link of a tap": (queues: number) => new ControlledLink(port(queues)),
  };

  /** The kernel is the cable: what one end sends comes out of its bridge at the other, another tap. */
  describe.each(Object.entries(shapes))("%s", (_name, open) => {
    netConformance({ describe, it }, async () => cableUnderTest({ net: await open(1), far: port(1) }));
  });

  describe("a tap with four queues", () => {
    netConformance({ describe, it }, () => Promise.resolve(cableUnderTest({ net: port(4), far: port(1) })));
  });

  describe("a tap whose interface is down", () => {
    unpluggedConformance({ describe, it }, () =>
      Promise.resolve(tap({ namespace: namespace.name, up: false })),
    );
  });

  describe("a tap whose interface somebody removed", () => {
    unpluggedConformance({ describe, it }, async () => {
      const net = tap({ namespace: namespace.name });
      await namespace.run("ip", "link", "del", net.name);
      const states: boolean[] = [];
      net.watchLink((isUp) => states.push(isUp));
      await expect.poll(() => states.at(-1), { timeout: 20_000 }).toBe(false);
      return net;
    });
  });
});
