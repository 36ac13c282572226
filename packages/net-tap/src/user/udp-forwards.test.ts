import { describe, expect, it } from "vitest";
import { VirtualTime } from "../../test/virtual-time.ts";
import { Claims } from "./claims.ts";
import { GuestLink } from "./link.ts";
import { Neighbours } from "./neighbours.ts";
import { resolveNetwork } from "./options.ts";
import { PacketWriter } from "./packet-writer.ts";
import { UdpForwards } from "./udp-forwards.ts";

const scheduler = new VirtualTime();
const network = resolveNetwork({ scheduler });
const link = new GuestLink(scheduler, () => undefined);
const claims = new Claims(network, new Neighbours(() => 0, new Map()), link, () => undefined);
const guest = network.firstLease;

describe("a forwarded port of UDP", () => {
  it("takes nothing from port 0, which nobody can answer (RFC 768)", () => {
    const forwards = new UdpForwards(network, new PacketWriter(link, network.gatewayMac, 1500, claims));
    const socket = forwards.open(guest, 7, "udp4");
    // As only a raw socket sends it.
    socket.emit("message", Buffer.of(1), { address: "127.0.0.1", port: 0, family: "IPv4", size: 1 });
    expect(forwards.answer(guest, 7, 49_152, Uint8Array.of(1))).toBe(false);
    forwards.close();
  });
});
