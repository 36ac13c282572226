import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasQemu, ours, qemu, scratchDirectory } from "../testing/img-tools.ts";

const directory = scratchDirectory();
mkdirSync(join(directory, "images"));
writeFileSync(join(directory, "raw"), Buffer.alloc(65536, 7));

describe("img", () => {
  it("makes a data file where whoever opens the image looks for it", async () => {
    const options = ["-o", "data_file=disk.data,preallocation=metadata"];
    const made = await ours(directory, "create", "-q", "-f", "qcow2", ...options, "images/a.qcow2", "1M");
    expect(made).toEqual({ code: 0, out: "", err: "" });
    expect(existsSync(join(directory, "images/disk.data"))).toBe(true);
    expect(existsSync(join(directory, "disk.data"))).toBe(false);
    expect(
      await ours(directory, "convert", "-n", "-f", "raw", "-O", "qcow2", "raw", "images/a.qcow2"),
    ).toEqual({
      code: 0,
      out: "",
      err: "",
    });
    expect(readFileSync(join(directory, "images/disk.data")).subarray(0, 65536)).toEqual(
      Buffer.alloc(65536, 7),
    );
    expect(await ours(directory, "convert", "-O", "raw", "images/a.qcow2", "out.raw")).toMatchObject({
      code: 0,
    });
  });

  it.each(["create", "convert"])("lists the options of %s", async (command) => {
    const words =
      command === "create" ? ["-f", "qcow2", "-o", "help"] : ["-O", "qcow2", "-o", "help", "raw", "b"];
    const { code, out, err } = await ours(directory, command, ...words);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    for (const name of ["cluster_size", "data_file_raw", "encrypt.iter-time"]) expect(out).toContain(name);
    expect(existsSync(join(directory, "b"))).toBe(false);
  });

  it("names the file of a secret that is not there, and takes no base64 that is none", async () => {
    const create = (object: string): Promise<{ readonly err: string }> =>
      ours(directory, "create", "-f", "qcow2", "-o", LUKS, "--object", object, "none.qcow2", "1M");
    expect((await create("secret,id=s,file=none")).err).toBe(
      "northbridge: --object: none: cannot read the secret: there is no such file or directory\n",
    );
    for (const text of ["cGFz*cw==", "cGFzcw", "cGFzcw=", "cGFz cw==", "cGFzc===", "cGFzcx=="]) {
      writeFileSync(join(directory, "secret"), `${text}\n`);
      expect((await create("secret,id=s,file=secret,format=base64")).err, text).toBe(
        "northbridge: --object: secret 's' is no base64\n",
      );
    }
    expect(existsSync(join(directory, "none.qcow2"))).toBe(false);
  });

  it("says how much of a file is missing that was cut off", async () => {
    await ours(directory, "create", "-q", "-f", "qcow2", "whole.qcow2", "1M");
    const whole = readFileSync(join(directory, "whole.qcow2"));
    for (const [length, message] of [
      [50, "the file was cut off inside the header: it has 50 bytes"],
      [100_000, "the file has 100000 bytes and was cut off before its L1 table, at 196608"],
    ] as const) {
      writeFileSync(join(directory, "cut.qcow2"), whole.subarray(0, length));
      expect(await ours(directory, "convert", "-f", "qcow2", "-O", "raw", "cut.qcow2", "out.raw")).toEqual({
        code: 1,
        out: "",
        err: `northbridge: cut.qcow2: ${message}\n`,
      });
    }
  });

  it("says which cache modes there are, and what its exit codes mean", async () => {
    expect((await ours(directory, "convert", "--help")).out).toContain("none is O_DIRECT");
    expect((await ours(directory, "--help")).out).toContain("Exit codes");
  });
});

const LUKS = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";

describe.skipIf(!hasQemu)("img beside qemu-img", () => {
  it.each([
    [
      ["dd", "-f", "raw", "-O", "raw", "skip=999", "if=raw", "of=out"],
      0,
      "raw: cannot skip to specified offset",
    ],
    [["convert", "-m", "99", "raw", "out"], 1, "-m: expected 1 to 16, found 99"],
    [["convert", "-m", "0", "raw", "out"], 1, "-m: expected 1 to 16, found 0"],
    [["info", "-q", "raw"], 1, "unknown option '-q'"],
    [["map", "-q", "raw"], 1, "unknown option '-q'"],
    [["compare", "none", "raw"], 2, "none: cannot open: no such file or directory"],
    [["measure", "none"], 1, "none: cannot open: no such file or directory"],
    [["info", "--image-opts", "-f", "raw", "driver=raw,file.filename=raw"], 1, "mutually exclusive"],
    [["convert", "--target-image-opts", "raw", "driver=raw,file.filename=out"], 1, "requires use of -n"],
    [
      ["convert", "-n", "-O", "raw", "--target-image-opts", "raw", "driver=raw,file.filename=out"],
      1,
      "mutually",
    ],
  ] as const)("exits alike: %j", async (args, code, message) => {
    expect(qemu(directory, "qemu-img", ...args)).toMatchObject({ code });
    expect(await ours(directory, ...args)).toMatchObject({ code, err: expect.stringContaining(message) });
  });

  it("copies into an encrypted image that is there, named by its options", async () => {
    writeFileSync(join(directory, "passphrase"), "open sesame");
    const secret = ["--object", "secret,id=s,file=passphrase"];
    const luks = ["-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"];
    const target = "driver=qcow2,file.filename=locked.qcow2,encrypt.key-secret=s";
    const convert = ["convert", "-n", ...secret, "-f", "raw", "--target-image-opts", "raw", target];
    for (const who of ["theirs", "ours"]) {
      await ours(directory, "create", "-q", ...secret, "-f", "qcow2", ...luks, "locked.qcow2", "64K");
      const copied =
        who === "ours" ? await ours(directory, ...convert) : qemu(directory, "qemu-img", ...convert);
      expect(copied, who).toEqual({ code: 0, out: "", err: "" });
      const back = ["convert", ...secret, "--image-opts", target, "-O", "raw", "back.raw"];
      expect(qemu(directory, "qemu-img", ...back)).toMatchObject({ code: 0 });
      expect(readFileSync(join(directory, "back.raw")), who).toEqual(Buffer.alloc(65536, 7));
    }
    const packed = ["convert", "-n", "-c", "--target-image-opts", "raw", "filename=back.raw"];
    expect((await ours(directory, ...packed)).err).toContain("a raw image cannot be compressed");
  });

  it("tells and keeps the holes of a raw file as qemu-img does", async () => {
    const file = openSync(join(directory, "sparse"), "w");
    ftruncateSync(file, 8 << 20);
    writeSync(file, Buffer.alloc(65536, 1), 0, 65536, 1 << 20);
    writeSync(file, Buffer.alloc(4096), 0, 4096, 3 << 20);
    closeSync(file);
    for (const args of [
      ["map", "-f", "raw", "sparse"],
      ["map", "--output=json", "-f", "raw", "sparse"],
      ["info", "-f", "raw", "sparse"],
      ["measure", "-f", "raw", "-O", "qcow2", "sparse"],
    ]) {
      expect(await ours(directory, ...args)).toEqual(qemu(directory, "qemu-img", ...args));
    }
    for (const [format, size] of [
      ["raw", 65536],
      ["qcow2", 65536 * 6],
    ] as const) {
      expect(await ours(directory, "convert", "-f", "raw", "-O", format, "sparse", "copy")).toMatchObject({
        code: 0,
      });
      expect(statSync(join(directory, "copy")).blocks * 512).toBeLessThanOrEqual(size);
      expect(qemu(directory, "qemu-img", "compare", "-F", format, "sparse", "copy")).toMatchObject({
        code: 0,
      });
    }
  });
});
