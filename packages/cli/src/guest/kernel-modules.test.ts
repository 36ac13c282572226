import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { collectModules, parseModuleInfo } from "./kernel-modules.ts";

/** A 64-bit ELF object with a `.modinfo` section, from the System V ABI. */
function fakeModule(modinfo: readonly string[]): Uint8Array {
  const info = Buffer.from(modinfo.map((value) => `${value}\0`).join(""), "latin1");
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const file = Buffer.alloc(64 + info.length + names.length + 3 * 64);
  const sections = 64 + info.length + names.length;
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(file);
  info.copy(file, 64);
  names.copy(file, 64 + info.length);
  file.writeBigUInt64LE(BigInt(sections), 0x28);
  file.writeUInt16LE(64, 0x3a);
  file.writeUInt16LE(3, 0x3c);
  file.writeUInt16LE(2, 0x3e);
  const section = (index: number, name: number, offset: number, size: number): void => {
    file.writeUInt32LE(name, sections + index * 64);
    file.writeBigUInt64LE(BigInt(offset), sections + index * 64 + 0x18);
    file.writeBigUInt64LE(BigInt(size), sections + index * 64 + 0x20);
  };
  section(1, 1, 64, info.length);
  section(2, 10, 64 + info.length, names.length);
  return file;
}

/** `fakeModule(["depends=failover"])`, packed by xz. */
const FAILOVER_USER_XZ =
  "/Td6WFoAAAFpIt42AgAhARwAAAAQz1jM4AEkAExdAD+RRYRoPYmm22o55XDfkUr/5aSGTkaBCB4AQ3NOm0B2F8HSzQ" +
  "SbxTbpiPpxPrd83FJI8+gmb9FwReUI+PB3FZV8zOZqr6fzBumOBkAApLuZXgABZKUCAAAA/EH+Qj4wDYsCAAAAAAFZ" +
  "Wg==";

describe("parseModuleInfo", () => {
  it("reads dependencies, with one spelling of names, and aliases", () => {
    const module = fakeModule([
      "license=GPL",
      "alias=pci:v00001AF4d*",
      "alias=x",
      "depends=virtio-ring,virtio",
    ]);
    expect(parseModuleInfo(module)).toEqual({
      depends: ["virtio_ring", "virtio"],
      aliases: ["pci:v00001AF4d*", "x"],
    });
  });

  it("takes an empty list for none", () => {
    expect(parseModuleInfo(fakeModule(["depends="]))).toEqual({ depends: [], aliases: [] });
  });
});

describe("collectModules", () => {
  let root = "";

  beforeEach(async () => {
    root = join(await mkdtemp(join(tmpdir(), "northbridge-modules-")), "6.1.0-test");
    const install = async (path: string, modinfo: readonly string[]): Promise<void> => {
      const file = join(root, "kernel", path);
      await mkdir(dirname(file), { recursive: true });
      const bytes = fakeModule(modinfo);
      await writeFile(file, file.endsWith(".xz") ? Buffer.from(FAILOVER_USER_XZ, "base64") : bytes);
    };
    await install("net/virtio_net.ko", ["depends=net_failover,virtio", "alias=virtio:d00000001v*"]);
    await install("net/net_failover.ko.xz", ["depends=failover"]);
    await install("net/failover.ko", ["depends="]);
    await install("virtio/virtio.ko", ["depends=virtio_ring"]);
    await install("virtio/virtio_ring.ko", ["depends="]);
    await install("hw/virtio-rng.ko", ["depends=virtio", "alias=virtio:d00000004v*"]);
    await install("unwanted.ko", ["depends=virtio"]);
  });

  afterEach(() => rm(dirname(root), { recursive: true, force: true }));

  const collect = async (): Promise<Map<string, string>> => {
    const entries = await collectModules(root, ["virtio_net", "virtio-rng", "built_in"]);
    return new Map(
      entries.map((entry) => [
        entry.path,
        entry.kind === "file" ? Buffer.from(entry.bytes).toString("latin1") : "",
      ]),
    );
  };

  it("brings what is needed, unpacked, and nothing else", async () => {
    const files = await collect();
    const modules = [...files.keys()].filter((path) => path.endsWith(".ko"));
    const directory = "/lib/modules/6.1.0-test/kernel/";
    expect(modules.map((path) => path.replace(directory, "")).sort()).toEqual([
      "hw/virtio-rng.ko",
      "net/failover.ko",
      "net/net_failover.ko",
      "net/virtio_net.ko",
      "virtio/virtio.ko",
      "virtio/virtio_ring.ko",
    ]);
    expect(files.get(`${directory}net/net_failover.ko`)?.slice(1, 4)).toBe("ELF");
  });

  it("refuses, by name, a module that is asked for and that the kernel has not even built in", async () => {
    await writeFile(join(root, "modules.builtin"), "kernel/drivers/base/regmap/regmap-i2c.ko\n");
    const paths = (await collectModules(root, [], ["virtio-rng", "regmap_i2c"])).map(({ path }) => path);
    expect(paths.filter((path) => path.endsWith(".ko")).map((path) => path.split("/").at(-1))).toEqual([
      "virtio-rng.ko",
      "virtio.ko",
      "virtio_ring.ko",
    ]);
    await expect(collectModules(root, [], ["virtio_rng", "virtio-ent"])).rejects.toMatchObject({
      code: "NB_CONFIG",
      message:
        "guest linux: --module virtio-ent: expected a module of the kernel 6.1.0-test, found none of that name; " +
        'did you mean "virtio_net"?',
    });
  });

  it("lists a module's needs so that the last is loaded first", async () => {
    const dependencies = (await collect()).get("/lib/modules/6.1.0-test/modules.dep")?.split("\n");
    expect(dependencies).toContain(
      "kernel/net/virtio_net.ko: kernel/virtio/virtio.ko kernel/virtio/virtio_ring.ko " +
        "kernel/net/net_failover.ko kernel/net/failover.ko",
    );
    expect(dependencies).toContain("kernel/net/failover.ko:");
  });

  it("says which device a module drives", async () => {
    expect((await collect()).get("/lib/modules/6.1.0-test/modules.alias")).toBe(
      "alias virtio:d00000001v* virtio_net\nalias virtio:d00000004v* virtio_rng\n",
    );
  });
});
