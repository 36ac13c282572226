import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const guest = await stockGuest("full");

/** Boots a machine with these devices and gives it to `use`, which finds sockets and files in the directory. */
async function withDevices(
  devices: (directory: string) => readonly object[],
  use: (shell: GuestShell, directory: string) => Promise<void>,
): Promise<void> {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  const config = linuxConfig({ ...guest.files, devices: devices(directory.path) });
  const file = await machineFile(directory.path, config);
  await using shell = await GuestShell.boot([file, "--timeout", "600"]);
  await use(shell, directory.path);
  expect(await shell.run("dmesg | grep -iE 'call trace|bug:|warning:|rcu.*stall|lockup'")).toMatchObject({
    text: "",
  });
  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
}

/** Everything a socket sends until it has sent this. */
async function readUntil(socket: Socket, text: string): Promise<string> {
  let got = "";
  for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
    got += String(bytes);
    if (got.includes(text)) return got;
  }
  throw new Error(`the socket ended before "${text}": ${got}`);
}

describe("virtio devices under stock drivers", () => {
  it("console: named ports both ways, and a console beside them", async () => {
    const socket = (path: string): object => ({ kind: "socket", path });
    await withDevices(
      (directory) => [
        {
          plugin: "virtioConsole",
          to: socket(join(directory, "hvc")),
          ports: [
            { name: "org.northbridge.echo", to: socket(join(directory, "echo")) },
            { name: "log", to: socket(join(directory, "log")) },
          ],
          size: { columns: 132, rows: 43 },
        },
      ],
      async (shell, directory) => {
        expect(await shell.ask("echo $(ls /dev/virtio-ports)")).toBe("log org.northbridge.echo");
        const echo = connect(join(directory, "echo"));
        await once(echo, "connect");
        await shell.ask("sh -c 'cat <> /dev/virtio-ports/org.northbridge.echo >&0' & sleep 0");
        const text = `${"northbridge ".repeat(5000)}end`;
        echo.write(text);
        expect(await readUntil(echo, "end")).toBe(text);

        // Without a peer a writer waits; what it writes is there when one comes.
        await shell.ask("(seq 1000 > /dev/virtio-ports/log) & sleep 1");
        const log = connect(join(directory, "log"));
        expect((await readUntil(log, "1000\n")).startsWith("1\n2\n3\n")).toBe(true);

        const console = connect(join(directory, "hvc"));
        await once(console, "connect");
        await shell.ask("echo hello console > /dev/hvc0");
        expect(await readUntil(console, "console\r\n")).toBe("hello console\r\n");
        expect(await shell.ask("stty size < /dev/hvc0")).toBe("43 132");
        for (const each of [echo, log, console]) each.destroy();
      },
    );
  });
});
