import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { EventFd, RootedBuffer, VhostNet, VhostRequest } from "../../src/index.ts";
import { vhostMemory, vhostVringAddr, vhostVringState } from "../../src/vhost.ts";

/** What a program printed that was compiled with the kernel's header. */
const recorded = JSON.parse(
  await readFile(join(import.meta.dirname, "vhost-table.json"), "utf8"),
) as Readonly<Record<string, number | string>>;

const hex = ({ bytes }: RootedBuffer): string => Buffer.from(bytes).toString("hex");

describe("requests of vhost-net", () => {
  it("are numbered as the kernel's header has them", () => {
    for (const [name, value] of Object.entries(VhostRequest))
      expect([name, value]).toEqual([name, recorded[name]]);
  });

  it("carry the header's structures", () => {
    const memory = vhostMemory([
      { gpa: 0, size: 0xc000_0000, userAddress: 0x7f12_3456_0000 },
      { gpa: 0x1_0000_0000, size: 0x4000_0000, userAddress: 0x7f00_0000_1000 },
    ]);
    const ring = { desc: 0x7f12_3456_1000, avail: 0x7f12_3456_2000, used: 0x7f12_3456_3000 };
    expect({
      vhost_memory: hex(memory),
      vhost_vring_addr: hex(vhostVringAddr(1, ring)),
      vhost_vring_state: hex(vhostVringState(1, 256)),
      vhost_vring_file: hex(vhostVringState(1, -1)),
    }).toEqual(Object.fromEntries(Object.entries(recorded).filter(([, value]) => typeof value === "string")));
  });

  it("are in this host's header as they are recorded", async (context) => {
    if (spawnSync("gcc", ["--version"]).status !== 0 || !existsSync("/usr/include/linux/vhost.h"))
      return context.skip("needs gcc and linux/vhost.h");
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-vhost-"));
    const program = join(directory.path, "table");
    execFileSync("gcc", ["-o", program, join(import.meta.dirname, "vhost-table.c")]);
    expect(JSON.parse(execFileSync(program, { encoding: "utf8" }))).toEqual(recorded);
  });

  it("are understood by a kernel that has it", (context) => {
    if (!existsSync("/dev/vhost-net")) return context.skip("needs /dev/vhost-net: modprobe vhost_net");
    const vhost = VhostNet.open();
    const [kick, call] = [new EventFd(), new EventFd()];
    const memory = new RootedBuffer(3 * 4096);
    try {
      const [low, high] = vhost.features();
      expect(high & 1).toBe(1); // VERSION_1
      vhost.setFeatures(low & (1 << 15), 1);
      const userAddress = Math.ceil(Number(memory.address) / 4096) * 4096;
      vhost.setMemory([{ gpa: 0, size: 8192, userAddress }]);
      const ring = { desc: userAddress, avail: userAddress + 4096, used: userAddress + 6144 };
      vhost.setRing(0, ring, 16, 5, kick.fd, call.fd);
      expect(vhost.ringBase(0)).toBe(5);
    } finally {
      vhost.close();
      kick.close();
      call.close();
    }
  });

  it("fail by name where there is no such device", () => {
    expect(() => VhostNet.open("/dev/null")).toThrow(expect.objectContaining({ errno: "ENOTTY" }));
    expect(() => VhostNet.open("/dev/nowhere")).toThrow(expect.objectContaining({ errno: "ENOENT" }));
  });
});
