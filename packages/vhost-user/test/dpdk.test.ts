import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopbackNet } from "@northbridge/core";
import { VirtioNet } from "@northbridge/devices-virtio";
import type { VirtioSession } from "@northbridge/sdk/virtio";
import { describe, expect, it } from "vitest";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";

/** `dpdk-testpmd` (Debian: dpdk-dev), with more arguments of its EAL where it needs some. */
const command = process.env["NORTHBRIDGE_DPDK"] ?? "";
if (command === "") console.log("no NORTHBRIDGE_DPDK=dpdk-testpmd: DPDK's drivers are not tried");

const [INDIRECT_DESC, RING_PACKED, IN_ORDER] = [28, 34, 35];
const FRAMES = 2000;

/** A card that tells what its driver chose. */
class WatchedNet extends VirtioNet {
  session: VirtioSession | undefined;

  override start(session: VirtioSession): void {
    this.session = session;
    super.start(session);
  }
}

// An implementation of the driver's side that is neither ours nor Linux's, and the one that uses IN_ORDER.
describe.skipIf(command === "")("the drivers of DPDK's virtio_user", () => {
  it.each([
    { packed: false, inOrder: false, options: "" },
    { packed: true, inOrder: false, options: ",packed_vq=1" },
    { packed: false, inOrder: true, options: ",in_order=1" },
    { packed: true, inOrder: true, options: ",packed_vq=1,in_order=1" },
    { packed: true, inOrder: true, options: ",packed_vq=1,in_order=1,mrg_rxbuf=0" },
  ])("send frames around a loopback (packed: $packed, in order: $inOrder; $options)", async (ring) => {
    const { packed, inOrder, options } = ring;
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-dpdk-"));
    const socket = join(directory.path, "net.sock");
    const device = new WatchedNet({
      backend: new LoopbackNet(),
      mac: Uint8Array.of(0x52, 0x54, 0, 1, 2, 3),
    });
    const refusals: string[] = [];
    const say = (line: string): void => {
      if (/refused|reset/.test(line)) refusals.push(line);
    };
    const backend = new VhostUserBackend({ device, createMemory, packed, inOrder, say });
    backend.listen(socket);
    const [program = "", ...more] = command.split(" ");
    const eal = ["-l", "0-1", "--no-huge", "-m", "256", "--no-pci", `--file-prefix=nb${process.pid}`];
    const vdev = `--vdev=virtio_user0,path=${socket},queue_size=256${options}`;
    const forward = ["--total-num-mbufs=2048", "--txd=256", "--rxd=256", "--forward-mode=io", "--tx-first"];
    const testpmd = spawn(program, [...more, ...eal, vdev, "--", ...forward], { stdio: "pipe" });
    let output = "";
    for (const stream of [testpmd.stdout, testpmd.stderr])
      stream.on("data", (bytes) => (output += String(bytes)));
    const ended = once(testpmd, "exit");
    const enough = new Promise<void>((resolve) => {
      const look = setInterval(() => {
        if ((device.stats()["framesIn"] ?? 0) < FRAMES && testpmd.exitCode === null) return;
        clearInterval(look);
        resolve();
      }, 20);
    });
    try {
      await enough;
      const { features } = device.session ?? {};
      expect([features?.has(RING_PACKED), features?.has(IN_ORDER)], output).toEqual([packed, inOrder]);
      expect(features?.has(INDIRECT_DESC)).toBe(true);
      testpmd.stdin.write("\n");
      expect(await ended, output).toEqual([0, null]);
      const [, received] = /RX-packets: (\d+) +RX-dropped: 0 [^]*Accumulated/.exec(output) ?? [];
      expect(Number(received), output).toBeGreaterThan(FRAMES / 2);
      expect(refusals).toEqual([]);
    } finally {
      testpmd.kill("SIGKILL");
      await ended;
      await backend.close();
    }
  });
});
