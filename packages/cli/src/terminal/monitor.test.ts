import { once } from "node:events";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createMachine, type Machine, PluginRegistry, RingBufferBackend } from "@northbridge/core";
import { type HostEndOptions, HostEnds } from "@northbridge/core/contracts";
import { debugConsole, FakeHypervisor } from "@northbridge/core/testing";
import { type ConfigSchema, defineHostEnd, definePlugin } from "@northbridge/sdk";
import { afterEach, beforeEach, expect, it } from "vitest";
import { serveMonitor } from "./monitor-socket.ts";
import { Monitor } from "./monitor.ts";

const anything = <T>(): ConfigSchema<T, T> => ({
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }) },
});

interface Ends {
  readonly disk: HostEndOptions;
  readonly link: HostEndOptions;
  readonly to: HostEndOptions;
}

/** A device that opens a disk and a link. */
const both = definePlugin<Ends, Ends>({
  name: "@fake/devices/both",
  config: anything<Ends>(),
  requires: [HostEnds],
  ends: { disk: "block", link: "net", to: "char" },
  async setup(ctx, { disk, link, to }) {
    const backend = await ctx.get(HostEnds).block(disk, { readOnly: true });
    ctx.onClose(() => backend.close());
    await ctx.get(HostEnds).net(link);
    // Says again what it hears.
    const echo = await ctx.get(HostEnds).char(to);
    echo.connect((bytes) => {
      for (const byte of bytes) echo.write(byte);
      return bytes.length;
    });
    return {
      stats: () => ({ requests: 3 }),
      monitorCommand: (words) => {
        asked.push(words.join(" "));
        return Promise.resolve("done");
      },
    };
  },
});

/** The cable of the registry, with counters. */
const counted = defineHostEnd<"net", unknown, unknown>({
  kind: "counted",
  of: "net",
  options: anything(),
  open: (_options, context) => {
    context.onStats(() => ({ frames: 5, lost: 1 }));
    return context.ends.net({ kind: "loopback" });
  },
});
/** What the device was asked at the monitor. */
const asked: string[] = [];

let machine: Machine;
beforeEach(async () => {
  machine = await createMachine({
    config: {
      machine: "bare-1",
      memory: { mib: 1 },
      devices: [
        { plugin: "debug-console", id: "console" },
        {
          plugin: "both",
          id: "b",
          disk: { kind: "memory", mib: 2 },
          link: { kind: "counted" },
          to: { kind: "ring" },
        },
      ],
    },
    hypervisor: new FakeHypervisor(),
    registry: new PluginRegistry([debugConsole, both], [], [counted]),
    console: new RingBufferBackend(),
  });
});
afterEach(() => machine.stop());

it("lists devices and what they have opened of the host, with their counters", async () => {
  const monitor = new Monitor(machine);
  expect(await monitor.execute("info devices")).toBe(
    "console  @fake/devices/debug-console  bytes=0\nb        @fake/devices/both           requests=3",
  );
  expect(await monitor.execute("info block")).toBe("b.disk  memory  2 MiB, read-only");
  expect(await monitor.execute("info net")).toBe(
    "b.link.loopback  loopback  MTU 1500\nb.link           counted   MTU 1500  frames=5 lost=1",
  );
  expect(await monitor.execute("info vsock")).toBe("none");
  expect(await monitor.execute("info disks")).toBe(
    "error: expected info devices, block, char, directory, net or vsock, found disks",
  );
});

it("passes on what a device shall do, and what its cable shall", async () => {
  const monitor = new Monitor(machine);
  asked.length = 0;
  expect(await monitor.execute("device b grow 5")).toBe("done");
  expect(await monitor.execute("link down b")).toBe("done");
  expect(asked).toEqual(["grow 5", "link down"]);
  expect(await monitor.execute("link up console")).toBe(
    "error: expected a device that takes commands (b), found console",
  );
  expect(await monitor.execute("link b")).toBe("error: expected link up ID or link down ID, found b");
});

it("saves to a directory whose name has blanks", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-monitor-"));
  await machine.start();
  const monitor = new Monitor(machine);
  const target = join(directory.path, "my  guest");
  expect(await monitor.execute(` save ${target} `)).toBe(`saved to ${target}`);
  expect(await readdir(directory.path)).toEqual(["my  guest"]);
  expect(await monitor.execute("save")).toBe("error: expected save DIR");
});

it("answers all that a client said before it only listened", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-monitor-"));
  const path = join(directory.path, "monitor.sock");
  const end = await serveMonitor(path, new Monitor(machine));
  const client = connect({ path, allowHalfOpen: true });
  client.end("pause\nlink up console\nnonsense\n");
  expect(await text(client)).toMatch(/^error: .*\nerror: .*\nerror: no command "nonsense"; try help\n$/);
  await end();
});

it("ends with the machine, whatever its clients do", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-monitor-"));
  const path = join(directory.path, "monitor.sock");
  const end = await serveMonitor(path, new Monitor(machine));
  const client = connect({ path, allowHalfOpen: true });
  client.write("status\n");
  await once(client, "data");
  const ended = once(client, "end");
  await end();
  await ended;
  client.destroy();
});

it("reads and writes what goes through a character end of kind ring", async () => {
  const monitor = new Monitor(machine);
  expect(await monitor.execute("info char")).toBe("b.to  ring");
  expect(await monitor.execute("ring read b.to")).toBe("");
  expect(await monitor.execute("ring write b.to  two  words")).toBe("written");
  expect(await monitor.execute("ring write b.to")).toBe("written");
  expect(await monitor.execute("ring read b.to")).toBe("two  words\n\n");
  expect(await monitor.execute("ring read com9.to")).toBe(
    "error: expected a character end of kind ring (b.to), found com9.to",
  );
  expect(await monitor.execute("ring")).toBe(
    "error: expected a character end of kind ring (b.to), found nothing",
  );
  expect(await monitor.execute("ring eat b.to")).toBe(
    "error: expected ring read END or ring write END TEXT, found ring eat b.to",
  );
});
