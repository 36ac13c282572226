import { existsSync } from "node:fs";
import { join } from "node:path";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { bootLinux } from "@northbridge/sdk/host";
import { expect, it } from "vitest";
import { wire } from "./wire.ts";

const directory = process.env["NORTHBRIDGE_GUEST"] ?? join(import.meta.dirname, "../linux-serial/guest");

it("joins two guests of one process by a wire", { timeout: 600_000 }, async (context) => {
  context.skip(
    !existsSync(join(directory, "vmlinuz")),
    "no guest: northbridge guest linux --out examples/linux-serial/guest",
  );
  const registry = builtInRegistry();
  registry.hostEnds.add(wire());
  await using linux = await bootLinux({
    hypervisor: builtInHypervisor("soft"),
    registry,
    kernel: join(directory, "vmlinuz"),
    initrd: join(directory, "initrd.img"),
    devices: [{ plugin: "virtioNet", mac: "52:54:00:00:00:01", link: { kind: "wire" } }],
  });
  // Both are restored from one boot; the machine that booted left its end of a wire, which joins the first.
  const [spare, left, right] = [await linux.guest(), await linux.guest(), await linux.guest()];
  await spare.stop();
  const setUp = (last: number): string =>
    `ip link set eth0 address 52:54:00:00:00:0${last} && ip addr add 10.0.0.${last}/24 dev eth0 && ip link set eth0 up`;
  expect(await left.exec(setUp(1))).toMatchObject({ stderr: "", status: 0 });
  expect(await right.exec(setUp(2))).toMatchObject({ stderr: "", status: 0 });
  expect(await left.exec("ping -c 3 -W 20 10.0.0.2")).toMatchObject({
    stdout: expect.stringContaining("3 packets transmitted, 3 packets received, 0% packet loss"),
    status: 0,
  });
  // A file goes over, as a stream.
  const text = "over the wire\n".repeat(5000);
  await left.push("/tmp/sent", text);
  // Busybox's nc ends as soon as its peer has nothing more to say: this one keeps its input open.
  await right.exec("tail -f /dev/null 2>&1 | nc -l -p 5000 > /tmp/received 2>/dev/null &");
  const sent = await left.exec("for i in 1 2 3 4 5; do nc 10.0.0.2 5000 < /tmp/sent && break; sleep 1; done");
  expect(sent.status).toBe(0);
  const received = await right.exec("while pidof nc; do sleep 1; done >/dev/null; md5sum < /tmp/received");
  expect(received.stdout).toBe((await left.exec("md5sum < /tmp/sent")).stdout);
});
