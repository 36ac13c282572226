import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CpioEntry } from "../../../src/guest/index.ts";
import { runTool } from "./host-tools.ts";

/** An `/init` for the guest's initramfs that goes on with the file system at /dev/vda. */
export const ROOT_INIT: CpioEntry = {
  kind: "file",
  path: "/init",
  mode: 0o755,
  bytes: new TextEncoder().encode(
    [
      "#!/bin/busybox sh",
      "export PATH=/bin:/sbin",
      "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev",
      "modprobe virtio_pci; modprobe virtio_blk",
      "mount -t ext4 -o ro /dev/vda /mnt && umount /proc /sys",
      "exec switch_root /mnt /sbin/init\n",
    ].join("\n"),
  ),
};

/** An ext4 image of a busybox system, made without privileges out of an initramfs' programs. */
export async function rootFileSystem(initrd: string, root: string, image: string): Promise<void> {
  await mkdir(root);
  // Devices need privileges, and the guest makes its own.
  await runTool("sh", "-c", `cd "${root}" && cpio -idm --quiet -f 'dev/*' < "${initrd}"`);
  const put = (name: string, text: string): Promise<void> => writeFile(join(root, name), text);
  await put(
    "etc/inittab",
    "::sysinit:/etc/rcS\nttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n::shutdown:/bin/umount -a -r\n",
  );
  await writeFile(
    join(root, "etc/rcS"),
    "#!/bin/sh\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs devtmpfs /dev\nmount -o remount,rw /\nhostname northbridge\n",
    { mode: 0o755 },
  );
  await put("etc/passwd", "root::0:0:root:/root:/bin/sh\n");
  await put("etc/securetty", "ttyS0\n");
  await runTool("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, image, "32M");
}
