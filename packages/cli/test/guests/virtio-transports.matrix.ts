import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { withDevices } from "./harness/with-devices.ts";

const MIB = 1 << 20;
const sha256 = async (path: string): Promise<string> =>
  createHash("sha256")
    .update(await readFile(path))
    .digest("hex");

it("serves stock drivers at addresses that ACPI tells them, and on PCI without message-signalled interrupts", async () => {
  const disk = (directory: string, name: string): object => ({ kind: "file", path: join(directory, name) });
  await withDevices(
    (directory) => [
      { plugin: "virtioBlk", disk: disk(directory, "pci.img"), serial: "PCI" },
      { plugin: "virtioNet", link: { kind: "loopback" } },
      {
        plugin: "virtioBlk",
        disk: disk(directory, "mmio.img"),
        serial: "MMIO",
        mmio: { gpa: 0xfeb0_0000, gsi: 12 },
      },
      { plugin: "virtioRng", mmio: { gpa: 0xfeb0_1000, gsi: 13 } },
    ],
    async (shell, directory) => {
      const named = (serial: string): Promise<string> =>
        shell.ask(`basename $(dirname $(grep -lx ${serial} /sys/block/vd?/serial))`);
      const disks = { pci: await named("PCI"), mmio: await named("MMIO") };
      expect(await shell.ask(`readlink -f /sys/block/${disks.mmio}/device`)).toMatch(
        /LNRO0005:00\/virtio\d$/,
      );
      expect(await shell.ask(`readlink -f /sys/block/${disks.pci}/device`)).toMatch(
        /pci0000:00\/.*\/virtio\d$/,
      );
      for (const [name, block] of Object.entries(disks)) {
        const image = join(directory, `${name}.img`);
        expect(await shell.ask(`sha256sum < /dev/${block}`)).toContain(await sha256(image));
        await shell.ask(
          `seq 200000 | head -c ${MIB} > /tmp/data; dd if=/tmp/data of=/dev/${block} bs=64k conv=fsync 2>/dev/null`,
        );
        expect(await shell.ask("sha256sum < /tmp/data")).toContain(await sha256(image));
      }
      expect(await shell.ask("cat /sys/class/misc/hw_random/rng_current")).toMatch(/^virtio_rng/);
      expect(await shell.ask("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c")).toBe("64");
      // What the guest sends comes back to it.
      await shell.ask("ip link set eth0 up && ip addr add 10.0.0.1/24 dev eth0");
      await shell.ask(
        "until [ $(cat /sys/class/net/eth0/statistics/rx_packets) -gt 3 ]; do ping -c 1 -W 1 10.0.0.2 > /dev/null; done; true",
      );
      const interrupts = (await shell.ask("grep virtio /proc/interrupts")).split("\n");
      expect(interrupts).toHaveLength(4);
      for (const line of interrupts) expect(line).toMatch(/ [1-9]\d* +IO-APIC +\d+-(fasteoi|edge) +virtio\d/);
      expect(await shell.ask("cat /proc/interrupts")).not.toContain("MSI");
    },
    {
      kernel: "cloud",
      cmdline: "pci=nomsi",
      files: async (directory) => {
        for (const [index, name] of ["pci.img", "mmio.img"].entries())
          await writeFile(join(directory, name), new Uint8Array(MIB).fill(index + 1));
      },
    },
  );
});
