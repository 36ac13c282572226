import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createServer, get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";

const here = import.meta.dirname;
const cli = join(here, "node_modules", "@northbridge", "cli");
/** The examples boot the same guest. */
const guests = [join(here, "guest"), join(here, "..", "linux-serial", "guest")];
const guest = guests.find((directory) => existsSync(join(directory, "vmlinuz")));

interface Manifest {
  readonly bin: { readonly northbridge: string };
}

/** What a server at a Unix socket answers. */
async function fetchFrom(socketPath: string, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const [response] = (await once(get({ socketPath, path }), "response")) as [AsyncIterable<Buffer>];
  for await (const chunk of response) chunks.push(chunk);
  return Buffer.concat(chunks);
}

it("joins a stock guest to one server of the host, and back", { timeout: 300_000 }, async (context) => {
  context.skip(guest === undefined, "no guest: northbridge guest linux --out examples/linux-net/guest");
  const work = mkdtempSync(join(tmpdir(), "linux-net-"));
  onTestFinished(() => {
    rmSync(work, { recursive: true });
  });
  copyFileSync(join(here, "machine.yaml"), join(work, "machine.yaml"));
  symlinkSync(guest ?? "", join(work, "guest"));

  const file = randomBytes(1 << 20);
  const server = createServer((_request, response) => response.end(file)).listen(join(work, "host.sock"));
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });

  const { bin } = JSON.parse(readFileSync(join(cli, "package.json"), "utf8")) as Manifest;
  const node = join(here, "..", "..", "node_modules", ".bin", "node");
  const machine = spawn(node, [
    join(cli, bin.northbridge),
    "run",
    join(work, "machine.yaml"),
    "--timeout",
    "280",
  ]);
  const ended = once(machine, "close");
  let output = "";
  const said = (pattern: RegExp): Promise<unknown> => {
    const from = output.length;
    return new Promise((resolve, reject) => {
      const look = (chunk: Buffer): void => {
        output += chunk.toString("latin1");
        if (!pattern.test(output.slice(from))) return;
        machine.stdout.off("data", look);
        resolve(undefined);
      };
      machine.stdout.on("data", look);
      void ended.then(() => {
        reject(new Error(`the machine ended first:\n${output.slice(-2000)}`));
      });
    });
  };
  machine.stderr.on("data", (chunk: Buffer) => (output += chunk.toString("latin1")));

  await said(/\n~ # (\x1b\[6n)?$/);
  // The DHCP client of guests that were fetched before had no script to run.
  const script = "ip link set $interface up; [ -z $ip ] || ip addr add $ip/24 dev $interface";
  const steps = [
    `printf '#!/bin/sh\\n${script}\\n' > /dhcp; chmod +x /dhcp; udhcpc -i eth0 -n -q -s /dhcp`,
    "echo nameserver 10.0.2.3 > /etc/resolv.conf; mkdir /www; wget -q -O /www/file http://host.test:8000/file",
    "httpd -p 80 -h /www; ping -c 1 10.0.2.2; echo serv''ing",
  ];
  const isServing = said(/serving\r?\n/);
  machine.stdin.write(`${steps.join("; ")}\n`);
  await isServing;
  expect((await fetchFrom(join(work, "guest.sock"), "/file")).equals(file)).toBe(true);
  machine.stdin.write("poweroff -f\n");
  expect((await ended)[0]).toBe(0);
  expect(output).toMatch(/lease of 10\.0\.2\.15 obtained/);
  expect(output).toMatch(/1 packets received, 0% packet loss/);
  // The file passed twice, and the capture has it: an Ethernet file with the section header's magic.
  const captured = readFileSync(join(work, "net0.pcapng"));
  expect(captured.readUInt32LE(0)).toBe(0x0a0d0d0a);
  expect(captured.length).toBeGreaterThan(2 * file.length);
});
