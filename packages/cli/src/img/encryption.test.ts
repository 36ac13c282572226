import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasQemu, ours, qemu, scratchDirectory } from "../testing/img-tools.ts";

const directory = scratchDirectory();
writeFileSync(join(directory, "pw"), "a passphrase\n");
const secret = ["--object", "secret,id=s,file=pw"];
const luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";

describe.skipIf(!hasQemu)("img with encrypted images, beside qemu-img", () => {
  it("makes, writes and describes them as qemu-img does", async () => {
    const content = Buffer.alloc(1 << 20, "northbridge ");
    writeFileSync(join(directory, "source.raw"), content);
    const convert = [
      "convert",
      ...secret,
      "-f",
      "raw",
      "-O",
      "qcow2",
      "-o",
      luks,
      "source.raw",
      "luks.qcow2",
    ];
    expect(await ours(directory, ...convert)).toMatchObject({ code: 0, err: "" });
    const named = "driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s";
    expect(
      qemu(directory, "qemu-img", "convert", ...secret, "--image-opts", named, "-O", "raw", "theirs.raw"),
    ).toMatchObject({ code: 0 });
    expect(qemu(directory, "qemu-img", "compare", "source.raw", "theirs.raw")).toMatchObject({ code: 0 });
    expect(
      await ours(directory, "convert", ...secret, "--image-opts", named, "-O", "raw", "ours.raw"),
    ).toMatchObject({ code: 0 });
    expect(qemu(directory, "qemu-img", "compare", "source.raw", "ours.raw")).toMatchObject({ code: 0 });
    const human = await ours(directory, "info", "luks.qcow2");
    expect(human).toEqual(qemu(directory, "qemu-img", "info", "luks.qcow2"));
    const json = await ours(directory, "info", "--output=json", "luks.qcow2");
    const theirJson = qemu(directory, "qemu-img", "info", "--output=json", "luks.qcow2");
    expect(JSON.parse(json.out)).toEqual(JSON.parse(theirJson.out));
    const checked = await ours(directory, "check", ...secret, "--image-opts", named);
    expect(checked).toEqual(qemu(directory, "qemu-img", "check", ...secret, "--image-opts", named));
    const mine = await ours(directory, "map", ...secret, "--image-opts", "--output=json", named);
    const theirs = qemu(directory, "qemu-img", "map", ...secret, "--image-opts", "--output=json", named);
    expect(mine).toEqual(theirs);
    const size = ["measure", ...secret, "-O", "qcow2", "-o", luks, "--size", "1G"];
    let measured = qemu(directory, "qemu-img", ...size);
    // QEMU makes a key to measure, and sometimes not long enough to see how fast it is.
    while (measured.err.includes("Unable to get accurate CPU usage"))
      measured = qemu(directory, "qemu-img", ...size);
    expect(await ours(directory, ...size)).toEqual(measured);
  });
});

describe("a secret", () => {
  const create = ["create", "-q", "-f", "qcow2", "-o", luks];
  it.each([
    ["secret,id=s,data=hunter2", "a secret on the command line is none: expected file=PATH or env=NAME"],
    ["secret,id=s", "a secret needs file=PATH or env=NAME"],
    ["secret,file=pw", "a secret needs an id"],
    ["secret,id=other,file=pw", "no --object secret has the id 's'"],
    ["tls-creds-x509,id=s", "expected secret,id=ID,file=PATH, found 'tls-creds-x509'"],
    ["secret,id=s,env=NORTHBRIDGE_NO_SUCH", "the environment has no NORTHBRIDGE_NO_SUCH"],
    ["secret,id=s,file=pw,format=rot13", "format: expected raw or base64, found 'rot13'"],
  ])("%s is refused", async (object, message) => {
    const { code, err } = await ours(directory, ...create, "--object", object, "none.qcow2", "1M");
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining(message) });
  });

  it("may come from the environment, in base64 too", async () => {
    process.env["NORTHBRIDGE_TEST_SECRET"] = Buffer.from("a passphrase\n").toString("base64");
    try {
      const object = "secret,id=s,env=NORTHBRIDGE_TEST_SECRET,format=base64";
      expect(await ours(directory, ...create, "--object", object, "env.qcow2", "1M")).toMatchObject({
        code: 0,
      });
    } finally {
      delete process.env["NORTHBRIDGE_TEST_SECRET"];
    }
    const raw = ["-O", "raw", "env.qcow2", "env.raw"];
    expect(await ours(directory, "convert", ...secret, ...raw)).toMatchObject({ code: 0 });
    writeFileSync(join(directory, "pw2"), "a passphrase");
    const wrong = await ours(directory, "convert", "--object", "secret,id=s,file=pw2", ...raw);
    expect(wrong).toMatchObject({
      code: 1,
      err: expect.stringContaining("the secret is not its passphrase"),
    });
  });

  it("cannot be compressed away", async () => {
    writeFileSync(join(directory, "small.raw"), Buffer.alloc(65536, 1));
    const convert = [
      "convert",
      "-c",
      ...secret,
      "-f",
      "raw",
      "-O",
      "qcow2",
      "-o",
      luks,
      "small.raw",
      "c.qcow2",
    ];
    expect(await ours(directory, ...convert)).toMatchObject({
      code: 1,
      err: "northbridge: Compression and encryption not supported at the same time\n",
    });
  });
});
