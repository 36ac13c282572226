import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { expect, it } from "vitest";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { buildVsockProgram } from "./harness/host-answer.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { MonitorClient } from "./harness/monitor-client.ts";
import { readUntil } from "./harness/with-devices.ts";

it("a stock guest's streams end at a restore, its listeners stay, and new streams work", async () => {
  const guest = await stockGuest("full");
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const at = (name: string): string => join(directory.path, name);
  const vsock = await buildVsockProgram(directory.path);
  if (vsock === undefined) throw new Error("no gcc on this host");
  const files = await initrdWith(guest.files, await program(vsock, "/opt/vsock"), at("initrd.img"));
  const devices = [{ plugin: "virtioVsock", cid: 42, to: { kind: "unix", path: "v" } }];
  const file = await machineFile(directory.path, linuxConfig({ ...files, devices }));
  const hashing = createServer({ allowHalfOpen: true }).listen(at("v_52"));
  hashing.on("connection", (socket) => {
    const hash = createHash("sha256");
    socket.on("error", () => undefined).on("data", (bytes) => hash.update(bytes));
    socket.on("end", () => socket.end(hash.digest("hex")));
  });
  await using _server = hashing;
  {
    await using shell = await GuestShell.boot([file, "--timeout", "600", "--monitor", at("monitor")]);
    await using monitor = await MonitorClient.connect(at("monitor"));
    const accepted = once(hashing, "connection");
    // Says nothing, and goes on.
    await shell.ask("mkfifo /tmp/silence; sleep 10000 > /tmp/silence & true");
    await shell.ask("(/opt/vsock connect 2 52 < /tmp/silence; echo ended $?) > /tmp/stream 2>&1 & true");
    await accepted;
    await shell.ask("(/opt/vsock listen 80 < /dev/null | wc -c > /tmp/heard; touch /tmp/done) & sleep 0.5");
    expect(await monitor.ask(`save ${at("saved")}`)).toContain("saved to");
    expect(await shell.ask("cat /tmp/stream")).toBe(""); // the machine that was saved goes on with its streams
    expect(await monitor.ask("quit")).toBe("ending");
    await shell.process.ended;
  }
  await using shell = GuestShell.restored([file, "--restore", at("saved"), "--timeout", "600"]);
  await shell.ask("while ! grep -q ended /tmp/stream; do sleep 0.1; done");
  expect(await shell.ask("cat /tmp/stream")).toBe("receive: Transport endpoint is not connected\nended 1");

  const text = Array.from({ length: 1000 }, (_, i) => `${i + 1}\n`).join("");
  expect(await shell.ask("seq 1000 | /opt/vsock connect 2 52")).toBe(
    createHash("sha256").update(text).digest("hex"),
  );
  const client = connect({ path: at("v"), allowHalfOpen: true });
  client.write("CONNECT 80\n");
  expect(await readUntil(client, "\n")).toMatch(/^OK \d+\n$/);
  client.end("12345");
  await once(client.resume(), "close");
  await shell.ask("while [ ! -e /tmp/done ]; do sleep 0.1; done");
  expect(await shell.ask("cat /tmp/heard")).toBe("5");
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
});
