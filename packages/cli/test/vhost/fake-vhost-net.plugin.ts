import { attachVirtio, parseMac } from "@northbridge/devices-virtio";
import {
  close,
  FdWatch,
  interfaceMtu,
  openTapQueue,
  read,
  RootedBuffer,
  setInterfaceUp,
  setTapHeader,
  setTapOffload,
  TunFlag,
  TunOffload,
  VhostNet,
  write,
} from "@northbridge/linux";
import { VhostNetServer } from "@northbridge/net-tap";
import { definePlugin, type DevicePlugin } from "@northbridge/sdk";
import * as v from "valibot";
import { vhostNetCard } from "../../src/vhost-user/vhost-net.ts";
import { FakeVhost } from "./fake-vhost.ts";

const HEADER = 12;

/** `vhostNet` of a host without one: its kernel's part is played here, between the rings and a real tap. */
export const fakeVhostNet: DevicePlugin<{ readonly name: string; readonly mac: string }> = definePlugin({
  name: "@northbridge/test/fakeVhostNet",
  config: v.strictObject({ name: v.string(), mac: v.string() }),
  async setup(ctx, { name, mac }) {
    const { fd } = openTapQueue(name, TunFlag.IFF_VNET_HDR);
    setTapHeader(fd, HEADER);
    setInterfaceUp(name);
    const kernel = new FakeVhost();
    const incoming = new RootedBuffer(HEADER + 65_553);
    /** A packet that the guest has had no room for: nothing is read until it has. */
    let held: Uint8Array | undefined;
    let watch: FdWatch | undefined;
    const drain = (): void => {
      for (let left = 64; left > 0; left -= 1) {
        if (held === undefined) {
          const length = read(fd, incoming);
          if (length === undefined) break;
          held = incoming.bytes.subarray(0, length);
        }
        if (!kernel.receive(held)) {
          watch?.close();
          watch = undefined;
          return;
        }
        held = undefined;
      }
      watch ??= new FdWatch(fd, drain);
    };
    kernel.offered = drain;
    kernel.transmit = (packet) => void write(fd, RootedBuffer.from(packet));
    const tap = {
      name,
      mtu: interfaceMtu(name),
      fds: [fd],
      setOffloads: ({ checksum, tso4, tso6 }: { checksum: boolean; tso4: boolean; tso6: boolean }) => {
        const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 } = TunOffload;
        setTapOffload(fd, checksum ? TUN_F_CSUM | (tso4 ? TUN_F_TSO4 : 0) | (tso6 ? TUN_F_TSO6 : 0) : 0);
      },
      close: () => {
        watch?.close();
        close(fd);
      },
    };
    const vhost = new VhostNet(kernel.ask, () => {
      kernel.close();
    });
    const card = await vhostNetCard(new VhostNetServer(vhost, tap), parseMac(mac)!, ctx.memory.slots);
    ctx.onClose(() => {
      card.close();
    });
    return attachVirtio(ctx, card, {});
  },
});
