import { join } from "node:path";
import { expect, it } from "vitest";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { emptyFrame, FramePeer } from "./harness/frame-peer.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { hostTool, missingTools } from "./harness/host-tools.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { monitor } from "./harness/with-devices.ts";

const guest = await stockGuest("cloud", { name: "cloud-vlan", modules: ["8021q"] });
const [PEER_MAC, MAC, NEW_MAC] = ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"];
const [STRANGER, GROUP] = ["52:54:00:00:00:99", "01:00:5e:01:02:03"];
const [PEER, GUEST] = ["10.0.0.1", "10.0.0.2"];
/** Place of the feature in what Linux says of a device (virtio 1.3 §6). */
const RING_RESET = 40;

/** What `ethtool -g` and `-G` do: SIOCETHTOOL with ETHTOOL_GRINGPARAM and ETHTOOL_SRINGPARAM (linux/ethtool.h). */
const RINGS = `
my @set = @ARGV;
socket(my $s, 2, 2, 0) or die $!;
sub rings { my $p = pack("L9", @_); ioctl($s, 0x8946, pack("a16P", "eth0", $p)) or die $!; unpack("L9", $p) }
my @now = rings(0x10, (0) x 8);
if (@set) { @now[0, 5, 8] = (0x11, @set); rings(@now); @now = rings(0x10, (0) x 8); }
print "@now[1, 4, 5, 8]\\n";
`;

it("a stock driver's receive filters, VLANs, addresses, announcements and rings of another size", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  const missing = missingTools("ip", "bridge", "perl");
  if (missing !== undefined) return context.skip(missing);
  await using directory = await scratch();
  const path = (name: string): string => join(directory.path, name);
  await using peer = await FramePeer.listen(path("wire"), PEER_MAC);
  const tools = await Promise.all([
    program(hostTool("ip"), "/opt/ip"),
    program(hostTool("bridge"), "/opt/bridge"),
    program(hostTool("perl"), "/opt/perl"),
  ]);
  const script = { kind: "file", path: "/opt/rings.pl", mode: 0o644, bytes: Buffer.from(RINGS) } as const;
  const files = await initrdWith(guest.files, [...tools.flat(), script], path("initrd.img"));
  const devices = [
    { plugin: "virtioNet", id: "net0", mac: MAC, link: { kind: "stream", path: path("wire") } },
  ];
  const machine = await machineFile(directory.path, linuxConfig({ ...files, devices }));
  await using shell = await GuestShell.boot([machine, "--timeout", "600", "--monitor", path("monitor")]);
  const count = async (device = "eth0"): Promise<number> =>
    Number(await shell.ask(`cat /sys/class/net/${device}/statistics/rx_packets`));
  let mac = MAC;
  /** Whether the driver gets such a frame: the frame behind it, which it does answer, has come in then. */
  const receives = async (to: string, vlan?: number): Promise<boolean> => {
    const before = await count();
    peer.send(emptyFrame(to, PEER_MAC, vlan));
    await peer.arping(GUEST, mac, PEER);
    return (await count()) - before === 2;
  };
  await shell.ask("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; modprobe 8021q");
  await shell.ask(
    `echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up; ip addr add ${GUEST}/24 dev eth0`,
  );

  expect(await receives(mac)).toBe(true);
  expect(await receives("ff:ff:ff:ff:ff:ff")).toBe(true);
  // The modes of reception (virtio 1.3 §5.1.6.5.1).
  for (const [to, mode] of [
    [STRANGER, "promisc"],
    [GROUP, "promisc"],
    [GROUP, "allmulticast"],
  ] as const) {
    expect(await receives(to), to).toBe(false);
    await shell.ask(`/opt/ip link set eth0 ${mode} on`);
    expect(await receives(to), `${to} ${mode}`).toBe(true);
    await shell.ask(`/opt/ip link set eth0 ${mode} off`);
    expect(await receives(to), to).toBe(false);
  }
  // The tables of addresses (§5.1.6.5.2).
  for (const [to, [join, leave]] of [
    [GROUP, [`ip maddr add ${GROUP}`, `ip maddr del ${GROUP}`]],
    [STRANGER, [`bridge fdb add ${STRANGER} self`, `bridge fdb del ${STRANGER} self`]],
  ] as const) {
    await shell.ask(`/opt/${join} dev eth0`);
    expect(await receives(to), join).toBe(true);
    await shell.ask(`/opt/${leave} dev eth0`);
    expect(await receives(to), leave).toBe(false);
  }
  // The driver's own address (§5.1.6.5.2).
  await shell.ask(`ip link set eth0 down; ip link set eth0 address ${NEW_MAC}; ip link set eth0 up`);
  mac = NEW_MAC;
  expect(await receives(NEW_MAC)).toBe(true);
  expect(await receives(MAC)).toBe(false);

  // VLANs (§5.1.6.5.3).
  expect(await receives(mac, 5)).toBe(false);
  await shell.ask("/opt/ip link add link eth0 name eth0.5 type vlan id 5 && /opt/ip link set eth0.5 up");
  expect(await receives(mac, 5)).toBe(true);
  expect(await count("eth0.5")).toBe(1);
  expect(await receives(mac, 6)).toBe(false);
  await shell.ask("/opt/ip link del eth0.5");
  expect(await receives(mac, 5)).toBe(false);

  // Link and announcements (§5.1.6.5.4).
  expect(await monitor(directory.path, "link down net0")).toBe("link down");
  await shell.ask("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do usleep 20000; done");
  expect(await monitor(directory.path, "link up net0")).toBe("link up");
  await shell.ask("until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do usleep 20000; done");
  const gratuitous = peer.next(({ sender, target }) => sender === GUEST && target === GUEST);
  expect(await monitor(directory.path, "device net0 announce")).toContain("asked to announce");
  expect(await gratuitous).toMatchObject({ to: "ffffffffffff", senderMac: NEW_MAC.replaceAll(":", "") });

  // Rings of another size, each reset by itself (§2.6.1), and in use again many times over.
  expect((await shell.ask("cat /sys/class/net/eth0/device/features"))[RING_RESET]).toBe("1");
  const [most] = (await shell.ask("/opt/perl /opt/rings.pl")).split(" ").map(Number);
  for (const [rx, tx] of [
    [16, 32], // less and Linux 6.1 stops sending: it wants room for 19 pieces of a packet
    [most, most],
  ]) {
    expect(await shell.ask(`/opt/perl /opt/rings.pl ${rx} ${tx}`)).toBe(`${most} ${most} ${rx} ${tx}`);
    for (let i = 0; i < 100; i++) await peer.arping(GUEST, mac, PEER);
  }
  expect(await shell.run("dmesg | grep -iE 'call trace|bug:|warning:|virtio.*(fail|error)'")).toMatchObject({
    text: "",
  });
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
});
