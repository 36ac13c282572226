import { statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasQemu, ours, type Outcome, qemu, scratchDirectory } from "../testing/img-tools.ts";

const directory = scratchDirectory();
const SIZE = 3 << 20;

/** Runs a command with qemu-img on one file and with ours on another. */
async function both(args: readonly string[]): Promise<readonly [theirs: Outcome, ours: Outcome]> {
  const at = (name: string): string[] => args.map((word) => word.replaceAll("NAME", name));
  const theirs = qemu(directory, "qemu-img", ...at("theirs"));
  return [theirs, await ours(directory, ...at("ours"))];
}

const stored = (name: string): number => statSync(join(directory, name)).blocks * 512;

describe.skipIf(!hasQemu)("preallocation beside qemu-img", () => {
  it.each([
    ["qcow2", "preallocation=metadata"],
    ["qcow2", "preallocation=falloc"],
    ["qcow2", "preallocation=full"],
    ["qcow2", "preallocation=metadata,cluster_size=512,refcount_bits=1"],
    ["qcow2", "preallocation=falloc,extended_l2=on,cluster_size=16K"],
    ["qcow2", "preallocation=metadata,data_file=NAME.data"],
    ["qcow2", "preallocation=full,data_file=NAME.data,data_file_raw=on"],
    ["qcow2", "preallocation=metadata,compat=0.10"],
    ["raw", "preallocation=off"],
    ["raw", "preallocation=falloc"],
    ["raw", "preallocation=full"],
  ])("%s %s", async (format, options) => {
    const extension = format === "raw" ? "raw" : "qcow2";
    const created = await both(["create", "-q", "-f", format, "-o", options, `NAME.${extension}`, `${SIZE}`]);
    expect(created[1]).toEqual(created[0]);
    const resized = await both([
      "resize",
      "-q",
      "-f",
      format,
      "--preallocation",
      "off",
      `NAME.${extension}`,
      "+1M",
    ]);
    expect(resized[1]).toEqual(resized[0]);
    const mode = /preallocation=(\w+)/.exec(options)?.[1] ?? "off";
    if (!options.includes("data_file_raw")) {
      const grown = await both([
        "resize",
        "-q",
        "-f",
        format,
        "--preallocation",
        mode,
        `NAME.${extension}`,
        "+1M",
      ]);
      expect(grown[1].code).toBe(grown[0].code);
    }
    const file = options.includes("data_file") ? "ours.data" : `ours.${extension}`;
    const isStored = mode === "falloc" || mode === "full";
    expect(stored(file) >= SIZE).toBe(isStored);
    if (format === "qcow2") {
      expect(qemu(directory, "qemu-img", "check", "ours.qcow2")).toMatchObject({ code: 0 });
      for (const args of [
        ["map", "--output=json", "-f", "qcow2", "ours.qcow2"],
        ["map", "-f", "qcow2", "ours.qcow2"],
        ["measure", "-O", "qcow2", "-f", "qcow2", "ours.qcow2"],
      ]) {
        expect((await ours(directory, ...args)).out).toBe(qemu(directory, "qemu-img", ...args).out);
      }
      const about = (name: string): unknown => {
        const info = JSON.parse(
          qemu(directory, "qemu-img", "info", "--output=json", `${name}.qcow2`).out,
        ) as {
          "virtual-size": number;
        };
        return info["virtual-size"];
      };
      expect(about("ours")).toBe(about("theirs"));
    }
    const io = ["-f", format, "-c", "read -P 0 0 3M", "-c", "write -P 7 100000 70000", `ours.${extension}`];
    expect(qemu(directory, "qemu-io", ...io).out).not.toContain("failed");
    const compare = ["compare", "-f", format, "-F", format, `ours.${extension}`, `theirs.${extension}`];
    qemu(directory, "qemu-io", "-f", format, "-c", "write -P 7 100000 70000", `theirs.${extension}`);
    expect(qemu(directory, "qemu-img", ...compare).out).toContain("identical");
  });

  it.each([
    ["create", "-f", "qcow2", "-o", "preallocation=some", "NAME.none", "1M"],
    ["create", "-f", "raw", "-o", "preallocation=metadata", "NAME.none", "1M"],
    ["create", "-f", "qcow2", "-o", "preallocation=full", "-b", "ours.raw", "-F", "raw", "NAME.none"],
  ])("%s %s %s %s %s is refused", async (...args) => {
    const [theirs, mine] = await both(args);
    expect({ theirs: theirs.code, mine: mine.code }).toEqual({ theirs: 1, mine: 1 });
    expect(mine.err).toMatch(/^northbridge: .*preallocation/i);
  });

  it("shows what is below through subclusters that have a place", async () => {
    expect(await ours(directory, "create", "-q", "-f", "raw", "base.raw", "1M")).toMatchObject({ code: 0 });
    qemu(directory, "qemu-io", "-f", "raw", "-c", "write -P 5 0 1M", "base.raw");
    const options = ["-o", "extended_l2=on,preallocation=metadata", "-b", "base.raw", "-F", "raw"];
    expect(await ours(directory, "create", "-q", "-f", "qcow2", ...options, "over.qcow2")).toMatchObject({
      code: 0,
    });
    const io = [
      "-c",
      "write -P 6 4096 512",
      "-c",
      "read -P 5 0 4096",
      "-c",
      "read -P 5 8192 1000000",
      "over.qcow2",
    ];
    expect(qemu(directory, "qemu-io", "-f", "qcow2", ...io)).toMatchObject({ code: 0 });
    expect(qemu(directory, "qemu-img", "check", "over.qcow2")).toMatchObject({ code: 0 });
    const mine = await ours(directory, "map", "--output=json", "over.qcow2");
    expect(mine.out).toBe(qemu(directory, "qemu-img", "map", "--output=json", "over.qcow2").out);
  });
});
