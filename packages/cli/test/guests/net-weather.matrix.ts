import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { fileServer } from "./harness/file-server.ts";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { hostTool, missingTools, runTool } from "./harness/host-tools.ts";
import { scratch } from "./harness/machine-file.ts";
import { MAC, networkMachine, userNetwork, WEB_PORT } from "./harness/network-scenario.ts";

/** Bytes that go each way, each time. */
const SIZE = 4 << 20;
/** Of tc-netem(8), at both ends of the guest's cable. */
const WEATHERS = [
  "loss 2%",
  "loss gemodel 1% 60%",
  "delay 4ms reorder 25% 50%",
  "duplicate 10%",
  "delay 10ms 8ms",
  "delay 3ms 1ms loss 1% duplicate 2% reorder 20% 50%",
];
const modules = ["sch_netem", "sch_ingress", "act_mirred", "cls_matchall", "ifb"];
const guest = await stockGuest("cloud", { name: "cloud-netem", modules });

it("carries files both ways through user() in every weather that a stock guest's tc makes", async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  const missing = missingTools("tc", "curl");
  if (missing !== undefined) return context.skip(missing);
  await using directory = await scratch();
  await using server = await fileServer(SIZE);
  const { link, place } = await userNetwork(server);
  // Frames of 1500 bytes: weather strikes each.
  const card = { plugin: "virtioNet", mac: MAC, link, offloads: false };
  const tc = hostTool("tc");
  const { args } = await networkMachine(guest.files, directory.path, [card], tc);
  await using shell = await GuestShell.boot(args);
  await shell.ask("udhcpc -i eth0 -n -q 2>&1");
  // What comes in is led through a device of its own, which has weather too.
  for (const step of [
    "modprobe ifb numifbs=1 && modprobe sch_ingress && modprobe cls_matchall && modprobe act_mirred",
    "ip link set ifb0 up",
    `${tc} qdisc add dev eth0 handle ffff: ingress`,
    `${tc} filter add dev eth0 parent ffff: protocol all matchall action mirred egress redirect dev ifb0`,
    `cd /tmp && httpd -p ${WEB_PORT} -h /tmp`,
  ]) {
    await shell.ask(step);
  }
  for (const weather of WEATHERS) {
    for (const device of ["eth0", "ifb0"])
      await shell.ask(`${tc} qdisc replace dev ${device} root netem limit 5000 ${weather}`);
    const began = performance.now();
    expect(await shell.ask(`wget -q -O /tmp/file ${place.serverUrl} && sha256sum /tmp/file`)).toContain(
      server.sha256,
    );
    const copy = join(directory.path, "copy");
    await runTool("curl", "-sS", "-o", copy, `http://${place.web.host}:${place.web.port}/file`);
    const digest = createHash("sha256").update(await readFile(copy));
    expect(digest.digest("hex")).toBe(server.sha256);
    console.log(`${weather}: ${Math.round(performance.now() - began)} ms`);
    if (!weather.includes("loss")) continue;
    for (const device of ["eth0", "ifb0"]) {
      const statistics = await shell.ask(`${tc} -s qdisc show dev ${device} root`);
      expect(Number(/dropped (\d+)/.exec(statistics)?.[1])).toBeGreaterThan(0);
    }
  }
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
});
