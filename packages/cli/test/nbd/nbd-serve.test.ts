import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { GuestProcess } from "../guests/harness/guest-process.ts";
import { missingTools, runTool } from "../guests/harness/host-tools.ts";
import { scratch } from "../guests/harness/machine-file.ts";

const missing = missingTools("qemu-img", "qemu-io", "nbdinfo", "nbdcopy");
if (missing !== undefined) process.stderr.write(`nbd serve: skipped, since ${missing}\n`);

const SIZE = 8 << 20;

/** Bytes that differ from block to block, with holes between them. */
function pattern(): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  for (let at = 0; at < SIZE; at += 4096) {
    if (at % 5 !== 0) bytes.fill(1 + ((at / 4096) % 255), at, at + 4096);
  }
  return bytes;
}

async function serving(
  image: string,
  socket: string,
  options: readonly string[],
  use: (uri: string) => Promise<void>,
): Promise<void> {
  await using server = new GuestProcess(["nbd", "serve", "--socket", socket, ...options, image], {
    stdin: "ignore",
  });
  while (!existsSync(socket)) {
    const ended = await Promise.race([server.ended, sleep(20)]);
    if (ended !== undefined) throw new Error(ended.err);
  }
  await use(`nbd+unix:///disk?socket=${socket}`);
  server.kill("SIGTERM");
  expect(await server.ended).toMatchObject({ code: 0, out: "" });
  expect(existsSync(socket)).toBe(false);
}

describe.skipIf(missing !== undefined)("northbridge nbd serve", () => {
  it("gives stock clients an image with its bitmap, takes what several connections write, and locks it", async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const socket = at("s");
    await runTool("qemu-img", "create", "-q", "-f", "qcow2", at("a.qcow2"), `${SIZE}`);
    await runTool("qemu-img", "bitmap", "--add", at("a.qcow2"), "b");
    await runTool("qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 64K", at("a.qcow2"));
    await writeFile(at("in.raw"), pattern());
    const named = ["-f", "qcow2", "-x", "disk"];
    await serving(at("a.qcow2"), socket, [...named, "--bitmap", "b"], async (uri) => {
      const { exports } = JSON.parse(await runTool("nbdinfo", "--json", uri)) as { exports: unknown[] };
      expect(exports).toMatchObject([
        {
          "export-name": "disk",
          "export-size": SIZE,
          can_multi_conn: true,
          contexts: ["base:allocation", "qemu:dirty-bitmap:b"],
        },
      ]);
      const dirty = await runTool("nbdinfo", "--json", "--map=qemu:dirty-bitmap:b", uri);
      const runs = JSON.parse(dirty) as { offset: number; length: number; type: number }[];
      expect(runs.filter(({ type }) => type === 1)).toMatchObject([{ offset: 1 << 20, length: 65536 }]);
      await runTool("nbdcopy", "--flush", "--connections=4", "--requests=16", at("in.raw"), uri);
      await expect(runTool("nbdinfo", `nbd+unix:///none?socket=${socket}`)).rejects.toThrow();
      await expect(runTool("qemu-img", "info", at("a.qcow2"))).rejects.toThrow("lock");
    });
    await runTool("qemu-img", "check", "-q", "-f", "qcow2", at("a.qcow2"));
    await runTool("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", at("in.raw"), at("a.qcow2"));

    await serving(at("a.qcow2"), socket, [...named, "--read-only"], async (uri) => {
      await expect(runTool("qemu-io", "-f", "raw", "-c", "write 0 512", uri)).rejects.toThrow();
      await runTool("nbdcopy", uri, at("out.raw"));
      // Readers share.
      await runTool("qemu-img", "info", at("a.qcow2"));
    });
    expect(Buffer.compare(readFileSync(at("out.raw")), pattern())).toBe(0);
  });

  it("says what is wrong with its arguments", async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    await runTool("qemu-img", "create", "-q", "-f", "qcow2", at("a.qcow2"), "1M");
    const end = async (...args: readonly string[]): Promise<string> => {
      await using server = new GuestProcess(["nbd", "serve", ...args], { stdin: "ignore" });
      const { code, err } = await server.ended;
      expect(code).not.toBe(0);
      return err;
    };
    const socket = ["--socket", at("s")];
    expect(await end(...socket, "--bitmap", "none", at("a.qcow2"))).toContain("there is no bitmap 'none'");
    expect(await end(...socket, "--tls-dir", at("tls"), at("a.qcow2"))).toContain("--tls-dir");
    expect(await end("--socket", at("no/s"), at("a.qcow2"))).toContain("there is no directory");
    expect(await end(...socket, at("b.qcow2"))).toContain("no such file");
  });

  it("takes over the socket of a killed server, as qemu-nbd does, and leaves one that is served and a file alone", async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    const socket = at("s");
    for (const name of ["a", "b"]) await runTool("qemu-img", "create", "-q", "-f", "qcow2", at(name), "1M");
    const serve = (where: string, image: string): GuestProcess =>
      new GuestProcess(["nbd", "serve", "-f", "qcow2", "--socket", where, at(image)], { stdin: "ignore" });
    {
      await using killed = serve(socket, "a");
      while (!existsSync(socket)) {
        const failed = await Promise.race([killed.ended, sleep(20)]);
        if (failed !== undefined) throw new Error(failed.err);
      }
      killed.kill("SIGKILL");
      await killed.ended;
    }
    expect(existsSync(socket)).toBe(true);
    await using server = serve(socket, "a");
    for (let answer = ""; !answer.includes("nbd"); ) {
      answer = await runTool("nbdinfo", `nbd+unix:///?socket=${socket}`).catch(() => "");
      const failed = await Promise.race([server.ended, sleep(20)]);
      if (failed !== undefined) throw new Error(failed.err);
    }
    await using second = serve(socket, "b");
    expect(await second.ended).toMatchObject({
      code: 1,
      err: expect.stringMatching(/somebody listens there/),
    });
    await writeFile(at("file"), "kept");
    await using onFile = serve(at("file"), "b");
    expect(await onFile.ended).toMatchObject({ code: 1, err: expect.stringMatching(/a file of that name/) });
    expect(readFileSync(at("file"), "utf8")).toBe("kept");
    server.kill("SIGTERM");
    expect(await server.ended).toMatchObject({ code: 0 });
  });

  it("serves an internal snapshot", async () => {
    await using directory = await scratch();
    const at = (name: string): string => join(directory.path, name);
    await runTool("qemu-img", "create", "-q", "-f", "qcow2", at("a.qcow2"), `${SIZE}`);
    await runTool("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", at("a.qcow2"));
    await runTool("qemu-img", "snapshot", "-c", "before", at("a.qcow2"));
    await runTool("qemu-io", "-f", "qcow2", "-c", "write -P 2 0 1M", at("a.qcow2"));
    await serving(at("a.qcow2"), at("s"), ["-x", "disk", "--snapshot", "before"], async (uri) => {
      await runTool("qemu-io", "-r", "-f", "raw", "-c", "read -P 1 0 1M", uri);
    });
  });
});
