import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const MIB = 2 ** 20;
const guest = await stockGuest("cloud");

it("keeps what a guest syncs to persistent memory in the host's file, and shows it to the next one", async () => {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const image = join(directory.path, "pmem.img");
  await writeFile(image, "from the host");
  await truncate(image, 64 * MIB);
  const devices = [{ plugin: "virtioPmem", file: { kind: "file", path: "pmem.img" }, mib: 64 }];
  const file = await machineFile(directory.path, linuxConfig({ ...guest.files, devices }));
  {
    await using shell = await GuestShell.boot([file, "--timeout", "600"]);
    expect(await shell.ask("cat /sys/block/pmem0/size")).toBe(String((64 * MIB) / 512));
    expect(await shell.ask("head -c 13 /dev/pmem0")).toBe("from the host");
    await shell.ask("seq 100000 | dd of=/dev/pmem0 bs=4k seek=1000 conv=fsync");
    expect((await readFile(image)).subarray(1000 * 4096, 1000 * 4096 + 10).toString()).toBe(
      "1\n2\n3\n4\n5\n",
    );
    // The file is the memory: what nobody has synced is in it, too.
    await shell.ask("printf stored | dd of=/dev/pmem0 bs=4k seek=2000 && echo 3 > /proc/sys/vm/drop_caches");
    expect((await readFile(image)).subarray(2000 * 4096, 2000 * 4096 + 6).toString()).toBe("stored");
    await shell.ask("mke2fs -F /dev/pmem0 >/dev/null && mount -t ext4 /dev/pmem0 /mnt");
    await shell.ask("seq 5000 > /mnt/numbers && umount /mnt");
    expect(await shell.run("dmesg | grep -iE 'call trace|bug:|rcu.*stall'")).toMatchObject({ text: "" });
    expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  }
  await using shell = await GuestShell.boot([file, "--timeout", "600"]);
  await shell.ask("mount -t ext4 -o ro /dev/pmem0 /mnt");
  expect(await shell.ask("cmp /mnt/numbers - <<EOF\n$(seq 5000)\nEOF\necho same")).toBe("same");
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
});
