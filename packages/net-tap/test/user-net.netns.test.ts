import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer } from "node:net";
import type { NetBackend } from "@northbridge/sdk";
import { describe, expect, it } from "vitest";
import { patch, tap, user, type UserNet, type UserNetOptions } from "../src/index.ts";
import { namespaceObstacle, NetworkNamespace } from "./network-namespace.ts";

const obstacle = namespaceObstacle("curl");

/** What a link does to frames, one after the other: the delays of the copies that arrive, in milliseconds. */
type Weather = (turn: number) => readonly number[];

const calm: Weather = () => [0];
/** No weather, and no one between: checksums and segmentation are left undone both ways. */
const direct: Weather = () => [];

/** A back end behind weather, both ways; the same in every run. */
function under(weather: Weather, inner: NetBackend): NetBackend {
  let turn = 0;
  const pass = (bytes: Uint8Array, deliver: (frame: Uint8Array) => void): void => {
    turn += 1;
    for (const delay of weather(turn)) {
      if (delay === 0) deliver(bytes);
      else {
        const copy = bytes.slice();
        setTimeout(() => {
          deliver(copy);
        }, delay);
      }
    }
  };
  return {
    mtu: inner.mtu,
    send: (frame) => {
      pass(Buffer.concat(frame), (bytes) => inner.send([bytes]));
      return true;
    },
    connect: (receive, onWritable) => {
      inner.connect((frame) => {
        pass(frame, receive);
        return true;
      }, onWritable);
    },
    resume: () => {
      inner.resume();
    },
    close: () => inner.close(),
  };
}

interface Guest extends AsyncDisposable {
  readonly namespace: NetworkNamespace;
  readonly net: UserNet;
}

/** A kernel of its own at the other end of `user()`, with addresses as DHCP would give them. */
async function guestOf(options: UserNetOptions, weather: Weather = calm): Promise<Guest> {
  const namespace = await NetworkNamespace.make();
  const device = tap({ name: `nbt${process.pid % 10_000}_%d`, up: false });
  const net = await user(options);
  await namespace.take(device.name);
  patch(weather === direct ? net : under(weather, net), device);
  await namespace.run("ip", "addr", "add", "10.0.2.15/24", "dev", "eth0");
  await namespace.run("ip", "route", "add", "default", "via", "10.0.2.2");
  return {
    namespace,
    net,
    async [Symbol.asyncDispose]() {
      await net.close();
      await device.close();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

/** Bytes without a pattern, the same in every run. */
const body = Buffer.concat(
  Array.from({ length: 1 << 15 }, (_, index) => createHash("sha256").update(String(index)).digest()),
);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Serves `body`, and answers what it is sent with its hash. */
async function webServer(host = "127.0.0.1"): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createHttpServer((request, response) => {
    if (request.method === "GET") {
      response.end(body);
      return;
    }
    const hash = createHash("sha256");
    request.on("data", (chunk: Buffer) => hash.update(chunk));
    request.on("end", () => response.end(hash.digest("hex")));
  });
  server.listen(0, host);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

describe.skipIf(obstacle !== undefined)(
  `user() under this host's own kernel${obstacle ? `: ${obstacle}` : ""}`,
  () => {
    const down = (url: string): string[] => ["sh", "-c", `curl -sS '${url}' | sha256sum`];
    const up = (url: string): string[] => ["sh", "-c", `curl -sS '${url}' | curl -sS -T - '${url}'`];

    it.each<[string, Weather]>([
      ["calm weather", calm],
      ["loss", (turn) => (turn % 37 === 0 || turn % 101 < 2 ? [] : [0])],
      ["reordering", (turn) => [turn % 7 === 0 ? 4 : 1]],
      ["duplication and delay", (turn) => (turn % 11 === 0 ? [1, 5] : [1 + (turn % 3)])],
      ["all of it", (turn) => (turn % 43 === 0 ? [] : turn % 13 === 0 ? [1, 9] : [turn % 5])],
    ])("carries a megabyte both ways through %s", async (_name, weather) => {
      await using server = await webServer();
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: server.port }] }, weather);
      const url = "http://10.0.2.2/";
      const [program = "", ...args] = down(url);
      expect(await guest.namespace.run(program, ...args)).toContain(sha256(body));
      const [upProgram = "", ...upArgs] = up(url);
      expect(await guest.namespace.run(upProgram, ...upArgs)).toContain(sha256(body));
      expect(guest.net.stats.framesRefused).toBe(0);
      // What the kernel took for segments of the past (RFC 7323 §5): none where nothing is late.
      const past = await guest.namespace.run("nstat", "-asz", "TcpExtPAWSEstab");
      if (weather === calm) expect(past).toMatch(/PAWSEstab +0 /);
    });

    it("carries a megabyte both ways through the weather of tc-netem(8)", async (context) => {
      context.skip(namespaceObstacle("tc") !== undefined, "needs tc");
      await using server = await webServer();
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: server.port }] });
      const weather = "delay 3ms 1ms loss 1% duplicate 1% reorder 10% 50%".split(" ");
      const made = await guest.namespace
        .run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", ...weather)
        .catch((error: unknown) => String(error));
      context.skip(made !== "", `this kernel has no netem: ${made}`);
      const url = "http://10.0.2.2/";
      for (const [program = "", ...args] of [down(url), up(url)])
        expect(await guest.namespace.run(program, ...args)).toContain(sha256(body));
    });

    it("takes large frames with partial checksums from the kernel, and gives it such", async () => {
      await using server = await webServer();
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: server.port }] }, direct);
      await guest.namespace.run("sh", "-c", untilAddressed);
      for (const url of ["http://10.0.2.2/", "http://[fd6e:6f72:7468:2::2]/"]) {
        const before = guest.net.stats;
        for (const [program = "", ...args] of [down(url), up(url)]) {
          expect(await guest.namespace.run(program, ...args)).toContain(sha256(body));
        }
        // Twice a megabyte to the guest and once from it: two thousand frames of 1500 bytes.
        const toGuest = guest.net.stats.framesToGuest - before.framesToGuest;
        const fromGuest = guest.net.stats.framesFromGuest - before.framesFromGuest;
        expect(toGuest + fromGuest).toBeLessThan(1000);
      }
      expect(guest.net.stats.framesRefused).toBe(0);
    });

    it("answers echo requests, in fragments too, of both families", async (context) => {
      context.skip(namespaceObstacle("ping") !== undefined, "needs ping");
      await using guest = await guestOf({});
      const ping = (...args: string[]): Promise<string> =>
        guest.namespace.run("ping", "-q", "-c", "3", "-i", "0.05", ...args);
      expect(await ping("10.0.2.2")).toContain("3 received, 0% packet loss");
      expect(await ping("-s", "20000", "10.0.2.3")).toContain("3 received, 0% packet loss");
      await guest.namespace.run("sh", "-c", untilAddressed);
      expect(await ping("fd6e:6f72:7468:2::2")).toContain("3 received, 0% packet loss");
      expect(await ping("-s", "20000", "fd6e:6f72:7468:2::3")).toContain("3 received, 0% packet loss");
      expect(await ping("fe80::2%eth0")).toContain("3 received, 0% packet loss");
    });

    it("gives the kernel an IPv6 address, a route and a way to the host", async () => {
      await using server = await webServer();
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: server.port }] });
      await guest.namespace.run("sh", "-c", untilAddressed);
      expect(await guest.namespace.run("ip", "-6", "route")).toContain("default via fe80::2 dev eth0");
      const [program = "", ...args] = down("http://[fd6e:6f72:7468:2::2]/");
      expect(await guest.namespace.run(program, ...args)).toContain(sha256(body));
    });

    it("reaches the outside where the policy names it, over both families", async () => {
      await using four = await webServer();
      await using six = await webServer("::1");
      const policy = [
        { action: "allow", to: "127.0.0.0/8", ports: [four.port] },
        { action: "allow", to: "::1/128" },
      ] as const;
      await using guest = await guestOf({ policy, subnet: "10.0.2.0/24" });
      await guest.namespace.run("ip", "link", "set", "lo", "down");
      await guest.namespace.run("sh", "-c", untilAddressed);
      await guest.namespace.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1");
      await guest.namespace.run("ip", "route", "flush", "table", "local");
      await guest.namespace.run("ip", "route", "add", "local", "10.0.2.15", "dev", "eth0", "table", "local");
      await guest.namespace.run("ip", "route", "add", "127.0.0.1", "via", "10.0.2.2", "src", "10.0.2.15");
      const [program = "", ...args] = down(`http://127.0.0.1:${four.port}/`);
      expect(await guest.namespace.run(program, ...args)).toContain(sha256(body));
      await expect(guest.namespace.run("curl", "-sS", `http://127.0.0.1:${six.port}/`)).rejects.toThrow(
        /Connection refused|Couldn't connect|Failed to connect/,
      );
    });

    it("leads a host's clients to a server of the guest, half-closing as they do", async () => {
      await using guest = await guestOf({ forwards: [{ hostPort: 0, guestPort: 7000 }] });
      const [port = 0] = guest.net.forwardedPorts;
      const served = guest.namespace.script(
        `import { createServer } from "node:net";
       const server = createServer({ allowHalfOpen: true }, (socket) => {
         let text = "";
         socket.on("data", (chunk) => (text += chunk));
         socket.on("end", () => socket.end(text.toUpperCase()));
         server.close();
       }).listen(7000);`,
      );
      const answer = await insist(async () => {
        const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
        socket.end("spoken to the end");
        let text = "";
        for await (const chunk of socket) text += String(chunk);
        return text;
      });
      expect(answer).toBe("SPOKEN TO THE END");
      await served;
    });

    it("tells a reset from an end, both ways", async () => {
      const ends: string[] = [];
      const server = createServer((socket) => {
        socket.on("error", (error: NodeJS.ErrnoException) => ends.push(error.code ?? ""));
        socket.on("close", () => ends.push("close"));
        socket.once("data", (chunk) => {
          if (String(chunk) === "reset me") socket.resetAndDestroy();
        });
      }).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: port }] });
      const client = `import { connect } from "node:net";
      const socket = connect(80, "10.0.2.2");
      socket.on("error", (error) => console.log(error.code)).on("close", () => console.log("close"));`;
      expect(await guest.namespace.script(`${client} socket.write("reset me");`)).toBe("ECONNRESET\nclose\n");
      expect(ends).toEqual(["close"]);
      ends.length = 0;
      await guest.namespace.script(`${client} socket.on("connect", () => socket.resetAndDestroy());`);
      while (!ends.includes("close")) await new Promise((resolve) => setTimeout(resolve, 10));
      expect(ends).toEqual(["ECONNRESET", "close"]);
      server.close();
    });

    it("waits for a slow reader of the host, holding no more than its buffers", async () => {
      let release = (): void => undefined;
      const sizes: number[] = [];
      const server = createServer((socket) => {
        socket.pause();
        release = () => {
          let length = 0;
          socket.on("data", (chunk) => (length += chunk.length));
          socket.on("end", () => sizes.push(length));
          socket.resume();
        };
      }).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: port }] });
      const client = guest.namespace.script(
        `import { connect } from "node:net";
       const socket = connect(80, "10.0.2.2", async () => {
         const chunk = Buffer.alloc(1 << 20);
         for (let left = 24; left > 0; left--) if (!socket.write(chunk)) await new Promise((r) => socket.once("drain", r));
         socket.end();
       });`,
      );
      // Nobody reads: what passes is what the sockets and our buffers hold, then the window closes.
      let before = -1;
      while (guest.net.stats.framesFromGuest !== before || before < 50) {
        before = guest.net.stats.framesFromGuest;
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
      const passed = guest.net.stats.framesFromGuest * 1460;
      expect(passed).toBeLessThan(18 << 20);
      release();
      await client;
      while (sizes.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      expect(sizes).toEqual([24 << 20]);
      server.close();
    });

    it("holds a thousand connections at a time", async () => {
      const server = createServer((socket) => {
        socket.on("data", (chunk) => socket.write(chunk));
        socket.on("end", () => socket.end());
      }).listen(0, "127.0.0.1", 1024);
      await once(server, "listening");
      const { port } = server.address() as AddressInfo;
      await using guest = await guestOf({ hostPorts: [{ guestPort: 80, hostPort: port }] });
      const output = await guest.namespace.script(
        `import { connect } from "node:net";
       const sockets = Array.from({ length: 1000 }, () => connect(80, "10.0.2.2"));
       await Promise.all(sockets.map((socket) => new Promise((resolve, reject) => {
         socket.once("connect", resolve).once("error", reject);
       })));
       const echoed = sockets.map((socket, index) => new Promise((resolve) => {
         socket.once("data", (data) => resolve(String(data) === "I am " + index));
         socket.write("I am " + index);
       }));
       console.log((await Promise.all(echoed)).filter(Boolean).length);
       for (const socket of sockets) socket.end();`,
      );
      expect(output.trim()).toBe("1000");
      server.close();
    });

    it("carries datagrams to the host and back, large ones in fragments", async () => {
      const echo = createSocket("udp4");
      echo.on("message", (message, from) => {
        echo.send(message, from.port, from.address);
      });
      echo.bind(0, "127.0.0.1");
      await once(echo, "listening");
      await using guest = await guestOf({
        hostPorts: [{ protocol: "udp", guestPort: 9, hostPort: echo.address().port }],
      });
      const output = await guest.namespace.script(
        `import { createSocket } from "node:dgram";
       const socket = createSocket("udp4");
       const sizes = [1, 1472, 1473, 9000, 60000];
       socket.on("message", (message, from) => {
         console.log(message.length, message.every((byte) => byte === message.length % 251), from.address, from.port);
         next();
       });
       const next = () => {
         const size = sizes.shift();
         if (size === undefined) socket.close();
         else socket.send(Buffer.alloc(size, size % 251), 9, "10.0.2.2");
       };
       next();`,
      );
      expect(output.trim().split("\n")).toEqual(
        [1, 1472, 1473, 9000, 60000].map((size) => `${size} true 10.0.2.2 9`),
      );
      echo.close();
    });
  },
);

/** Until the kernel has made itself an address out of our prefix, and found it free. */
const untilAddressed =
  "until ip -6 addr show dev eth0 scope global -tentative | grep -q inet6; do sleep 0.05; done";

/** The server of the other process may not listen yet: connections are refused until it does. */
async function insist<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
