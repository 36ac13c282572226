import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type LinkFrames, netConformance, unsummedHeader } from "@northbridge/sdk/conformance";
import { describe, it } from "vitest";
import { user } from "../src/index.ts";
import { turns } from "./cable-end.ts";
import { arp, field, GuestCard, guestMac, internetSum, udp } from "./guest-card.ts";

/** Of Ethernet, IPv4 without options and UDP. */
const HEADERS = 14 + 20 + 8;
const UDP_AT = 34;
const UDP_CHECKSUM = 6;
/** Of the guest: where it sends from, whom it sends to, and where it listens. */
const [CLIENT, ECHO, SERVER] = [4000, 9, 7];

const payload = (tag: number, length: number): Uint8Array => new Uint8Array(length - HEADERS).fill(tag);

function outgoing(tag: number, length: number): { readonly frame: Uint8Array; readonly arrives: Uint8Array } {
  const arrives = payload(tag, length);
  return { frame: udp(CLIENT, ECHO, [...arrives]), arrives };
}

/** A NAT passes no arbitrary frames: datagrams of the guest, whose payload a socket of the host hears and says. */
const datagrams: LinkFrames = {
  outgoing,
  incoming: payload,
  tagOf(frame) {
    const isOurs = frame[12] === 8 && field.protocol(frame) === 17 && field.port(frame, 2) === SERVER;
    if (!isOurs) return undefined; // it looks for the guest, and tells of routers
    const [tag = 0, ...others] = field.udpPayload(frame);
    return others.every((byte) => byte === tag) ? tag : 0;
  },
  unsummed(tag, length) {
    const { frame, arrives } = outgoing(tag, length);
    const pseudoHeader = [...frame.subarray(26, 34), 0, 17, ...frame.subarray(UDP_AT + 4, UDP_AT + 6)];
    const sum = ~internetSum(pseudoHeader) & 0xffff;
    frame.set([sum >>> 8, sum & 255], UDP_AT + UDP_CHECKSUM);
    return { frame, header: unsummedHeader(UDP_AT, UDP_CHECKSUM), arrives };
  },
};

async function boundSocket(): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

describe("user()", () => {
  netConformance({ describe, it }, async () => {
    const [server, client] = [await boundSocket(), await boundSocket()];
    const arrived: Uint8Array[] = [];
    server.on("message", (message) => arrived.push(message));
    // A forward that is closed is answered by ICMP.
    client.on("error", () => undefined);
    const net = await user({
      hostPorts: [{ protocol: "udp", guestPort: ECHO, hostPort: server.address().port }],
      forwards: [{ protocol: "udp", hostPort: 0, guestPort: SERVER }],
    });
    const [port = 0] = net.forwardedPorts;
    await new GuestCard(net).answers(arp(1, guestMac, "10.0.2.15", "10.0.2.2"));
    return {
      net,
      frames: datagrams,
      deliver: async (bytes) => {
        await new Promise((resolve) => {
          client.send(bytes, port, "127.0.0.1", resolve);
        });
        await turns();
      },
      sent: async () => {
        for (;;) {
          const message = arrived.shift();
          if (message !== undefined) return message;
          await once(server, "message");
        }
      },
      close: async () => {
        for (const socket of [server, client])
          await new Promise<void>((resolve) => void socket.close(resolve));
      },
    };
  });
});
