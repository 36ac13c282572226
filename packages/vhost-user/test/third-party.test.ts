import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { virtioConformance } from "@northbridge/sdk/conformance";
import { afterAll, beforeAll, describe, it } from "vitest";
import { VhostUserTarget } from "../src/conformance/index.ts";

const DAEMON = "qemu-storage-daemon";
const isHere = process.env["NORTHBRIDGE_QEMU"] === "1" && spawnSync(DAEMON, ["--version"]).status === 0;
const BLOCK = 2;

/** Somebody else's back end: an export of QEMU's storage daemon. */
describe.skipIf(!isHere)(`${DAEMON} (NORTHBRIDGE_QEMU=1)`, () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
  const socket = join(directory, "blk.sock");
  let daemon: ReturnType<typeof spawn>;

  beforeAll(async () => {
    const image = join(directory, "disk.raw");
    writeFileSync(image, "");
    truncateSync(image, 1 << 20);
    daemon = spawn(DAEMON, [
      "--blockdev",
      `driver=file,filename=${image},node-name=file,discard=unmap`,
      "--blockdev",
      "driver=raw,file=file,node-name=disk,discard=unmap",
      "--export",
      `type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=${socket},writable=on,num-queues=2`,
    ]);
    while (!existsSync(socket) && daemon.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });

  afterAll(async () => {
    daemon.kill();
    await new Promise((resolve) => daemon.once("exit", resolve));
    rmSync(directory, { recursive: true });
  });

  virtioConformance(
    { describe, it },
    {
      deviceId: BLOCK,
      create: () => VhostUserTarget.connect(socket, { queueSizes: [128, 128] }),
      // Reported in the README of this package.
      violates: [
        "the device MUST handle normal chained descriptors followed by a single indirect one",
        "GET_ID answers 20 bytes",
      ],
    },
  );
});
