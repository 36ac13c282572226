import { type CpioEntry, writeCpio } from "@northbridge/sdk/host";

/** What the guest prints once user space runs. */
export const READY_LINE = "Northbridge guest ready";

/**
 * First process of the guest. Loads drivers for what it finds, and powers off when the shell on the console ends.
 * Loops use the shell's own commands only: a process costs a software CPU a million instructions.
 */
const INIT = `#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=vt100
[ -e /bin/mount ] || /bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run

probe() {
  aliases=
  for file in /sys/bus/$1/devices/$2/modalias; do
    [ -r "$file" ] && read -r alias < "$file" && aliases="$aliases $alias"
  done
  [ -z "$aliases" ] || modprobe -qa $aliases
}
probe pci '*'
probe platform 'LNRO0005*'
probe virtio '*'
probe nd '*'
# What these find is found by and by: its drivers wait for it.
[ -e /sys/module/virtio_scsi ] && modprobe -qa sd_mod sr_mod
[ -e /sys/module/virtio_input ] && modprobe -qa evdev
# Named ports of virtio consoles, as udev shows them. They come a little after their device, one after the other.
name_ports() {
  names=
  turns=
  while [ "\${#turns}" -lt 50 ]; do
    before=$names
    names=
    for port in /sys/class/virtio-ports/*; do
      [ -r "$port/name" ] && read -r name < "$port/name" && [ "$name" != "(null)" ] || continue
      [ -d /dev/virtio-ports ] || mkdir /dev/virtio-ports
      [ -e "/dev/virtio-ports/$name" ] || ln -s "../\${port##*/}" "/dev/virtio-ports/$name"
      names="$names $name"
    done
    [ -n "$names" ] && [ "$names" = "$before" ] && break
    turns=x$turns
    usleep 20000
  done
}
for device in /sys/bus/virtio/devices/*; do
  [ -r "$device/device" ] && read -r id < "$device/device" && read -r features < "$device/features" || continue
  case "$id$features" in 0x0003?1*) name_ports ;; esac
done

echo "${READY_LINE}"
# From here on only warnings interrupt the shell.
echo 4 > /proc/sys/kernel/printk
cd /root
setsid cttyhack sh -l
poweroff -f
`;

/** What busybox's DHCP client runs when it hears of an address. */
const DHCP_SCRIPT = `#!/bin/sh
case "$1" in
deconfig)
  ip addr flush dev "$interface"
  ip link set "$interface" up
  ;;
bound|renew)
  ip addr replace "$ip/$mask" dev "$interface"
  [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
  [ -z "$router" ] || ip route replace default via "\${router%% *}" dev "$interface"
  [ -z "$hostname" ] || hostname "$hostname"
  [ -z "$dns" ] || : > /etc/resolv.conf
  for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
  ;;
esac
`;

const DIRECTORIES = ["/dev", "/etc", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp"];

/** What goes into an initramfs besides the fixed part. */
export interface InitramfsContents {
  /** Static busybox. */
  readonly busybox: Uint8Array;
  /** Absolute paths of its applets, from `busybox --list-full`; without them the guest makes the links at each boot. */
  readonly applets: readonly string[];
  readonly modules: readonly CpioEntry[];
  readonly extra: readonly CpioEntry[];
}

/**
 * An initramfs with busybox, kernel modules and an `/init` that says {@link READY_LINE} and runs a shell.
 * Not compressed: on a software CPU unpacking costs the guest more than reading costs the host.
 */
export function buildInitramfs({ busybox, applets, modules, extra }: InitramfsContents): Uint8Array {
  const text = (path: string, content: string, mode = 0o644): CpioEntry => ({
    kind: "file",
    path,
    mode,
    bytes: new TextEncoder().encode(content),
  });
  return writeCpio([
    ...DIRECTORIES.map((path): CpioEntry => ({ kind: "directory", path })),
    // The kernel opens the console before anything can be mounted.
    { kind: "characterDevice", path: "/dev/console", major: 5, minor: 1 },
    { kind: "characterDevice", path: "/dev/null", mode: 0o666, major: 1, minor: 3 },
    { kind: "file", path: "/bin/busybox", mode: 0o755, bytes: busybox },
    ...applets
      .filter((path) => path !== "/bin/busybox")
      .map((path): CpioEntry => ({ kind: "symlink", path, target: "/bin/busybox" })),
    text("/init", INIT, 0o755),
    text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    text("/etc/group", "root:x:0:\n"),
    text("/etc/udhcpc/default.script", DHCP_SCRIPT, 0o755),
    ...modules,
    ...extra,
  ]);
}
