import { existsSync } from "node:fs";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { virtioBlk } from "@northbridge/devices-virtio";
import { bootLinux } from "@northbridge/sdk/host";
import { expectSameAsTrace, readTrace, recordedPlugin } from "@northbridge/sdk/recording";
import { expect, it } from "vitest";
import { builtInHypervisor } from "../built-in-hypervisor.ts";
import { builtInRegistry } from "../built-in-registry.ts";

const guest =
  process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../../../../examples/linux-serial/guest");

it("replays a disk under Linux on two processors from power-on to the end, also from a snapshot on", {
  timeout: 600_000,
}, async (context) => {
  const kernel = join(guest, "vmlinuz");
  context.skip(!existsSync(kernel), "no guest: northbridge guest linux --out examples/linux-serial/guest");
  const directory = await mkdtemp(join(tmpdir(), "northbridge-replay-"));
  try {
    const path = join(directory, "disk.img");
    await writeFile(path, "");
    await truncate(path, 8 << 20);
    /** One for each machine: that which boots, that of the guest. */
    const traces: Uint8Array[][] = [];
    const linux = await bootLinux({
      hypervisor: builtInHypervisor("soft"),
      registry: builtInRegistry(),
      kernel,
      initrd: join(guest, "initrd.img"),
      vcpus: 2,
      devices: [{ plugin: "virtioBlk", id: "disk", disk: { kind: "file", path } }],
      adapt(spec, id) {
        if (id !== "disk") return spec;
        const parts: Uint8Array[] = [];
        traces.push(parts);
        return recordedPlugin(spec, (bytes) => parts.push(bytes));
      },
    });
    const { exec } = await linux.guest().then((started) => ({ exec: started.exec.bind(started) }));
    // More buffers in flight than a few, and again and again: rings outlive what goes through them.
    const work =
      "mke2fs -F /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && (dd if=/dev/zero of=/mnt/a bs=64k count=40 2>/dev/null & dd if=/dev/zero of=/mnt/c bs=64k count=20 2>/dev/null; wait) && sync && cp /mnt/a /mnt/b && umount /mnt";
    expect(await exec("nproc")).toMatchObject({ stdout: "2\n" });
    expect(await exec(work)).toMatchObject({ stderr: "", status: 0 });
    await linux.close();
    expect(traces).toHaveLength(2);
    for (const parts of traces) {
      const trace = Buffer.concat(parts);
      expect(readTrace(trace).records.length).toBeGreaterThan(200);
      await expectSameAsTrace(trace, virtioBlk({ disk: { kind: "file", path } }));
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});
