import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { fileServer } from "./harness/file-server.ts";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";
import { stubResolver } from "./harness/stub-resolver.ts";

const guest = await stockGuest("cloud");
const runFile = promisify(execFile);
const SERVED = 100 << 20;

/** A free port of this host: the machine's own process listens on it a moment later. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  server.close();
  await once(server, "close");
  return bound !== null && typeof bound === "object" ? bound.port : 0;
}

/** Everything that `socket` says until it ends. */
async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

it("joins a stock guest to the host and to names through user()", async () => {
  if ("missing" in guest) throw new Error(guest.missing);
  await using directory = await scratch();
  await using server = await fileServer(SERVED);
  await using resolver = await stubResolver([192, 0, 2, 7]);
  const [port, many, port6] = [await freePort(), await freePort(), await freePort()];
  const stats = join(directory.path, "stats.json");
  const perl = await program("/usr/bin/perl", "/opt/perl");
  const files = await initrdWith(guest.files, perl, join(directory.path, "initrd.img"));
  const config = {
    ...linuxConfig({ ...files, mib: 512 }),
    devices: [
      {
        plugin: "virtioNet",
        id: "net0",
        mac: "52:54:00:12:34:56",
        link: {
          kind: "user",
          hostname: "guest",
          dns: { records: { "host.test": ["10.0.2.2"] }, servers: [`127.0.0.1:${resolver.port}`] },
          hostPorts: [{ guestPort: 80, hostPort: server.port }],
          forwards: [
            { hostPort: port, guestPort: 8000 },
            { hostPort: many, guestPort: 8001 },
            { hostPort: port6, guestPort: 8000, guestAddress: "fd6e:6f72:7468:2:5054:ff:fe12:3456" },
          ],
        },
      },
    ],
  };
  const file = await machineFile(directory.path, config);
  await using shell = await GuestShell.boot([file, "--timeout", "800", "--stats", stats]);

  // DHCP
  expect(await shell.ask("udhcpc -i eth0 -n -q 2>&1")).toContain("lease of 10.0.2.15 obtained");
  expect(await shell.ask("ip route")).toContain("default via 10.0.2.2");
  expect(await shell.ask("hostname")).toBe("guest");
  // Names, from the table and from a server of the host's.
  expect(await shell.ask("nslookup host.test")).toContain("Address: 10.0.2.2");
  expect(await shell.ask("nslookup far.test")).toContain("Address: 192.0.2.7");
  // Echo
  expect(await shell.ask("ping -c 3 10.0.2.2")).toContain("3 packets received, 0% packet loss");
  // Where it may not: ports that are not stated, and what clouds keep at link-local addresses.
  expect(await shell.run(`wget -O - http://10.0.2.2:${server.port}/`)).toMatchObject({ status: 1 });
  expect(await shell.run("wget -O - http://169.254.169.254/")).toMatchObject({ status: 1 });
  // 100 MiB from the host
  expect(await shell.ask("wget -q -O /tmp/file http://host.test/file && sha256sum /tmp/file")).toContain(
    server.sha256,
  );
  // and back
  await shell.ask("cd /tmp && echo small > hello && httpd -p 8000 -h /tmp");
  const copy = join(directory.path, "copy");
  await runFile("curl", ["-sS", "-o", copy, `http://127.0.0.1:${port}/file`]);
  expect(
    createHash("sha256")
      .update(await readFile(copy))
      .digest("hex"),
  ).toBe(server.sha256);
  // 500 connections at a time: each is greeted before the first is answered.
  const crowd = [
    'socket S,2,1,0;bind S,pack("Sna4x8",2,8001,"\\0\\0\\0\\0") or die;listen S,512;',
    'for(1..500){accept my $c,S;syswrite $c,"hello";push @c,$c}',
    'for(@c){sysread $_,$b,99;syswrite $_,"bye $b";close $_}',
  ].join("");
  await shell.ask(`/opt/perl -e '${crowd}' & until grep -q :1F41 /proc/net/tcp; do usleep 50000; done`);
  const sockets = Array.from({ length: 500 }, () => createConnection({ host: "127.0.0.1", port: many }));
  await Promise.all(sockets.map((socket) => once(socket, "data")));
  sockets.forEach((socket, index) => socket.write(`${index}\n`));
  const answers = await Promise.all(sockets.map(readAll));
  expect(answers).toEqual(sockets.map((_, index) => `bye ${index}\n`));
  // IPv6: its own address, the gateway, the host, and back through a forwarded port
  await shell.ask(
    "until ip -6 addr show dev eth0 scope global | grep -v tentative | grep -q inet6; do usleep 100000; done",
  );
  expect(await shell.ask("ping -c 3 fd6e:6f72:7468:2::2")).toContain("3 packets received, 0% packet loss");
  expect(await shell.ask("wget -q -O - 'http://[fd6e:6f72:7468:2::2]/file' | sha256sum")).toContain(
    server.sha256,
  );
  const six = await runFile("curl", ["-sS", `http://127.0.0.1:${port6}/hello`]);
  expect(six.stdout).toBe("small\n");

  expect(await shell.end()).toMatchObject({ code: 0, err: "" });
  const { hostEnds } = JSON.parse(await readFile(stats, "utf8")) as {
    readonly hostEnds: Readonly<Record<string, Readonly<Record<string, number>>>>;
  };
  const [counters] = Object.values(hostEnds);
  expect(counters?.["bytesIn"]).toBeGreaterThan(SERVED);
  expect(counters?.["bytesOut"]).toBeGreaterThan(2 * SERVED);
});
