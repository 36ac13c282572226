import { enterNetworkNamespace } from "@northbridge/linux";
import { describe, expect, it } from "vitest";
import { namespaceObstacle, NetworkNamespace } from "../../test/network-namespace.ts";
import { ipFrom } from "../wire/ip.ts";
import { HostAddresses } from "./host-addresses.ts";

const obstacle = namespaceObstacle();

describe.skipIf(obstacle !== undefined)(
  `the addresses of a host${obstacle === undefined ? "" : `: ${obstacle}`}`,
  () => {
    it("are those that its kernel keeps: of interfaces without a carrier or down, and of local routes too", async () => {
      await using namespace = await NetworkNamespace.make();
      for (const line of [
        "link add idle type bridge",
        "addr add 172.17.0.1/16 dev idle",
        "addr add fd00:9::1/64 dev idle nodad",
        "link set idle up",
        "link add asleep type bridge",
        "addr add 172.18.0.1/16 dev asleep",
        "route add local 172.19.0.0/24 dev lo",
      ]) {
        await namespace.run("ip", ...line.split(" "));
      }
      const leave = enterNetworkNamespace(`/run/netns/${namespace.name}`);
      const addresses = new HostAddresses(() => 0);
      leave();
      const own = ["127.0.0.1", "::1", "172.17.0.1", "172.18.0.1", "172.19.0.7", "fd00:9::1"];
      const others = ["172.17.0.2", "172.20.0.1", "192.0.2.1", "fd00:9::2", "2001:db8::1"];
      const kept = [...own, ...others].filter((text) => addresses.isOwn(ipFrom(text) ?? 0));
      addresses.close();
      expect(kept).toEqual(own);
    });
  },
);
