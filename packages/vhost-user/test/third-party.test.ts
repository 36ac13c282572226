import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { vhostUserConformance, virtioConformance } from "@northbridge/sdk/conformance";
import { afterAll, beforeAll, describe, it } from "vitest";
import { VhostUserTarget, vhostUserWire } from "../src/conformance/index.ts";

const DAEMON = "qemu-storage-daemon";
const isHere = spawnSync(DAEMON, ["--version"]).status === 0;
if (!isHere) console.log(`${DAEMON} is not installed: no back end of others is judged`);
const BLOCK = 2;

/** Somebody else's back end: an export of QEMU's storage daemon. */
class StorageDaemon {
  readonly socket: string;
  readonly #image: string;
  #process: ChildProcess | undefined;

  constructor(directory: string) {
    this.socket = join(directory, "blk.sock");
    this.#image = join(directory, "disk.raw");
    writeFileSync(this.#image, "");
    truncateSync(this.#image, 1 << 20);
  }

  /** In the place of the one before, which a clause may have ended: that it goes down is heard of late. */
  async start(): Promise<void> {
    await this.stop();
    rmSync(this.socket, { force: true });
    const daemon = spawn(DAEMON, [
      "--blockdev",
      `driver=file,filename=${this.#image},node-name=file,discard=unmap`,
      "--blockdev",
      "driver=raw,file=file,node-name=disk,discard=unmap",
      "--export",
      `type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path=${this.socket},writable=on,num-queues=2`,
    ]);
    this.#process = daemon;
    while (!existsSync(this.socket) && !hasEnded(daemon)) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async stop(): Promise<void> {
    const daemon = this.#process;
    if (daemon === undefined || hasEnded(daemon)) return;
    const ended = new Promise((resolve) => daemon.once("exit", resolve));
    daemon.kill();
    await ended;
  }
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean =>
  exitCode !== null || signalCode !== null;

describe.skipIf(!isHere)(DAEMON, () => {
  const directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
  const daemon = new StorageDaemon(directory);
  const { socket } = daemon;

  beforeAll(() => daemon.start());
  afterAll(async () => {
    await daemon.stop();
    rmSync(directory, { recursive: true });
  });

  vhostUserConformance(
    { describe, it },
    {
      prepare: () => daemon.start(),
      wire: vhostUserWire(socket),
      deviceId: BLOCK,
      // Reported in the README of this package.
      violates: ["a front end that names a ring that there is not"],
    },
  );

  describe("every clause of its device", () => {
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
});
