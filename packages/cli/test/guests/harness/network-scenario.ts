import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import type { FileServer } from "./file-server.ts";
import { type GuestFiles, initrdWith, program } from "./find-guest.ts";
import type { GuestShell } from "./guest-shell.ts";
import { linuxConfig, machineFile } from "./machine-file.ts";

const runFile = promisify(execFile);

/** Bytes of the file that goes both ways. */
export const SERVED: number = 100 << 20;
const CROWD = 500;
/** Ports of the guest: its web server, and the one for the crowd. */
export const WEB_PORT = 8000;
export const CROWD_PORT = 8001;

/** Where the guest and the host find each other. */
export interface Neighbourhood {
  /** The host's file server as the guest reaches it: a name or an address, and the same over IPv6. */
  readonly serverUrl: string;
  readonly serverUrl6: string;
  /** Who answers echo requests. */
  readonly echo: string;
  readonly echo6: string;
  /** The guest's ports as the host reaches them. */
  readonly web: { readonly host: string; readonly port: number };
  readonly web6: { readonly host: string; readonly port: number };
  readonly crowd: { readonly host: string; readonly port: number };
}

/** The card of the guest that is looked at. */
export const MAC = "52:54:00:12:34:56";
/** The address it makes itself behind `user()`. */
const GUEST6 = "fd6e:6f72:7468:2:5054:ff:fe12:3456";

/** A machine with these devices, and what it boots. */
export interface NetworkMachine {
  /** Arguments of `northbridge run`. */
  readonly args: readonly string[];
  readonly files: GuestFiles;
}

/** A machine that boots the guest with Perl, which accepts the crowd, and other programs of this host. */
export async function networkMachine(
  guest: GuestFiles,
  directory: string,
  devices: readonly object[],
  ...programs: readonly string[]
): Promise<NetworkMachine> {
  const added = await Promise.all(programs.map((path) => program(path)));
  const extra = [...(await program("/usr/bin/perl", "/opt/perl")), ...added.flat()];
  const files = await initrdWith(guest, extra, join(directory, "initrd.img"));
  const file = await machineFile(directory, linuxConfig({ ...files, mib: 512, devices }));
  return { args: [file, "--timeout", "800"], files };
}

/** What `user()` needs to be told for the scenario, and where guest and host find each other then. */
export async function userNetwork(
  server: FileServer,
): Promise<{ readonly link: object; readonly place: Neighbourhood }> {
  const [port, many, port6] = [await freePort(), await freePort(), await freePort()];
  const link = {
    kind: "user",
    hostPorts: [{ guestPort: 80, hostPort: server.port }],
    forwards: [
      { hostPort: port, guestPort: WEB_PORT },
      { hostPort: many, guestPort: CROWD_PORT },
      { hostPort: port6, guestPort: WEB_PORT, guestAddress: GUEST6 },
    ],
  };
  const place = {
    serverUrl: "http://10.0.2.2/file",
    serverUrl6: "http://[fd6e:6f72:7468:2::2]/file",
    echo: "10.0.2.2",
    echo6: "fd6e:6f72:7468:2::2",
    web: { host: "127.0.0.1", port },
    web6: { host: "127.0.0.1", port: port6 },
    crowd: { host: "127.0.0.1", port: many },
  };
  return { link, place };
}

/** A free port of this host: the machine's own process listens on it a moment later. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  server.close();
  await once(server, "close");
  return bound !== null && typeof bound === "object" ? bound.port : 0;
}

/** Asserts that a large file comes to the guest and back, that a crowd is served at a time, and echo, on both families. */
export async function exerciseNetwork(
  shell: GuestShell,
  directory: string,
  server: FileServer,
  place: Neighbourhood,
): Promise<void> {
  expect(await shell.ask(`ping -c 3 ${place.echo}`)).toContain("3 packets received, 0% packet loss");
  expect(await shell.ask(`wget -q -O /tmp/file ${place.serverUrl} && sha256sum /tmp/file`)).toContain(
    server.sha256,
  );
  await shell.ask(`cd /tmp && echo small > hello && httpd -p ${WEB_PORT} -h /tmp`);
  const copy = join(directory, "copy");
  await runFile("curl", ["-sS", "-o", copy, `http://${place.web.host}:${place.web.port}/file`]);
  expect(
    createHash("sha256")
      .update(await readFile(copy))
      .digest("hex"),
  ).toBe(server.sha256);
  await serveCrowd(shell, place.crowd);
  await shell.ask(
    "until ip -6 addr show dev eth0 scope global | grep -v tentative | grep -q inet6; do usleep 100000; done",
  );
  expect(await shell.ask(`ping -c 3 ${place.echo6}`)).toContain("3 packets received, 0% packet loss");
  expect(await shell.ask(`wget -q -O - '${place.serverUrl6}' | sha256sum`)).toContain(server.sha256);
  const six = await runFile("curl", ["-gsS", `http://${place.web6.host}:${place.web6.port}/hello`]);
  expect(six.stdout).toBe("small\n");
}

/** So many connections at a time: all are accepted before the first is answered. */
async function serveCrowd(shell: GuestShell, crowd: Neighbourhood["crowd"]): Promise<void> {
  const script = [
    `socket S,2,1,0;bind S,pack("Sna4x8",2,${CROWD_PORT},"\\0\\0\\0\\0") or die;listen S,512;`,
    `for(1..${CROWD}){accept my $c,S;push @c,$c}`,
    'for(@c){sysread $_,$b,99;syswrite $_,"bye $b";close $_}',
  ].join("");
  const listens = `grep -q :${CROWD_PORT.toString(16).toUpperCase()} /proc/net/tcp`;
  await shell.ask(`/opt/perl -e '${script}' & until ${listens}; do usleep 50000; done`);
  const sockets = Array.from({ length: CROWD }, () => createConnection(crowd));
  // The client speaks first: passt of 2023 opens no connection whose server does.
  sockets.forEach((socket, index) => socket.write(`${index}\n`));
  const answers = await Promise.all(sockets.map(readAll));
  expect(answers).toEqual(sockets.map((_, index) => `bye ${index}\n`));
}

/** Everything that `socket` says until it ends. */
async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}
