import { FakeCharBackend, VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { VirtioConsole } from "./virtio-console.ts";

describe("VirtioConsole", () => {
  it("keeps input until there is a buffer, and spreads it over buffers", () => {
    const backend = new FakeCharBackend();
    const bench = new VirtioBench(new VirtioConsole({ backend })).start();
    backend.type("hello world");
    expect(backend.waiting).toBe(11);
    const [a, b] = [bench.alloc(4), bench.alloc(64)];
    bench.queue(0).add([], [{ gpa: a, length: 4 }]);
    bench.queue(0).add([], [{ gpa: b, length: 64 }]);
    bench.kick(0);
    expect(
      bench
        .queue(0)
        .collect()
        .map(({ written }) => written),
    ).toEqual([4, 7]);
    expect(String.fromCharCode(...bench.bytes(a, 4), ...bench.bytes(b, 7))).toBe("hello world");
  });

  it("writes output, and single bytes before there is a driver", () => {
    const backend = new FakeCharBackend();
    const bench = new VirtioBench(new VirtioConsole({ backend }));
    bench.endpoint.writeConfig(8, 4, 0x21);
    bench.start();
    const gpa = bench.allocBytes(Uint8Array.of(0x6f, 0x6b));
    bench.queue(1).add([{ gpa, length: 2 }], []);
    bench.kick(1);
    expect(backend.text).toBe("!ok");
    expect(bench.queue(1).collect()).toHaveLength(1);
  });

  it("says how large it is, and when that changes, by the configuration space (§5.3.4)", () => {
    const device = new VirtioConsole({ backend: new FakeCharBackend() });
    device.resize(80, 25);
    const bench = new VirtioBench(device).start();
    expect([bench.endpoint.readConfig(0, 2), bench.endpoint.readConfig(2, 2)]).toEqual([80, 25]);
    device.resize(132, 43);
    expect([bench.endpoint.readConfig(0, 2), bench.endpoint.readConfig(2, 2)]).toEqual([132, 43]);
    expect(bench.configInterrupts).toBe(1);
  });
});

/** Control events (virtio 1.3 §5.3.6.2). */
const [DEVICE_READY, ADD, PORT_READY, CONSOLE, RESIZE, OPEN, NAME] = [0, 1, 3, 4, 5, 6, 7] as const;

/** A driver that has the control queues, as Linux uses them. */
function multiport(replaces?: { readonly bench: VirtioBench; readonly buffers: Map<number, number> }) {
  const [console, agent, log] = [new FakeCharBackend(), new FakeCharBackend(), new FakeCharBackend()];
  const device = new VirtioConsole({
    backend: console,
    ports: [
      { name: "agent", backend: agent },
      { name: "log", backend: log },
    ],
  });
  const bench = new VirtioBench(device, replaces === undefined ? {} : { memory: replaces.bench.memory });
  if (replaces === undefined) bench.start();
  else {
    bench.endpoint.restore(
      JSON.parse(JSON.stringify(replaces.bench.endpoint.save())) as ReturnType<typeof bench.endpoint.save>,
    );
    bench.endpoint.resume();
  }
  const { queues } = replaces?.bench ?? bench;
  const buffers = replaces?.buffers ?? new Map<number, number>();
  /** Gives a queue a buffer to write to. */
  const offer = (queue: number, length = 64): void => {
    const gpa = (replaces?.bench ?? bench).alloc(length);
    const id = queues[queue]!.add([], [{ gpa, length }]);
    if (id !== undefined) buffers.set(id, gpa);
    bench.endpoint.notify(queue);
  };
  const collect = (queue: number): Uint8Array[] =>
    queues[queue]!.collect().map(({ id, written }) => bench.bytes(buffers.get(id)!, written));
  const send = (queue: number, bytes: Uint8Array): void => {
    queues[queue]!.add([{ gpa: (replaces?.bench ?? bench).allocBytes(bytes), length: bytes.length }], []);
    bench.endpoint.notify(queue);
    queues[queue]!.collect();
  };
  /** Sends a control message. */
  const say = (id: number, event: number, value: number): void => {
    send(3, Uint8Array.of(id, 0, 0, 0, event, 0, value, 0));
  };
  /** Control messages of the device: port, event, value, and what is behind it. */
  const heard = (): unknown[] =>
    collect(2).map((bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      return [
        view.getUint32(0, true),
        view.getUint16(4, true),
        view.getUint16(6, true),
        ...(bytes.length > 8 ? [String.fromCharCode(...bytes.subarray(8))] : []),
      ];
    });
  return { console, agent, log, device, bench, buffers, offer, collect, send, say, heard };
}

/** As `multiport`, with all ports added. */
function added() {
  const driver = multiport();
  for (let i = 0; i < 16; i++) driver.offer(2);
  driver.say(0, DEVICE_READY, 1);
  for (const port of [0, 1, 2]) driver.say(port, PORT_READY, 1);
  driver.heard();
  return driver;
}

describe("VirtioConsole with named ports", () => {
  it("leaves output with the guest while nobody reads it, but for the console's", async () => {
    const { bench, console, agent, say } = added();
    say(1, OPEN, 1);
    const write = (queue: number, text: string): void => {
      const gpa = bench.allocBytes(Uint8Array.from(text, (char) => char.charCodeAt(0)));
      bench.queue(queue).add([{ gpa, length: text.length }], []);
      bench.kick(queue);
    };
    agent.setRoom(5);
    for (const text of ["abc", "def", "ghi"]) write(5, text);
    expect([agent.text, bench.queue(5).collect().length]).toEqual(["abcdef", 2]);
    write(5, "jkl");
    await bench.endpoint.pause();
    agent.setRoom(1);
    expect(agent.text).toBe("abcdef"); // not while the machine is paused
    bench.endpoint.resume();
    expect([agent.text, bench.queue(5).collect().length]).toEqual(["abcdefghi", 1]);
    agent.setRoom(100);
    expect([agent.text, bench.queue(5).collect().length]).toEqual(["abcdefghijkl", 1]);
    write(5, "!");
    expect(agent.text).toBe("abcdefghijkl!");
    console.setRoom(0);
    write(1, "panic");
    expect([console.text, bench.queue(1).collect().length]).toEqual(["panic", 1]);
  });

  it("has two queues a port and two for control (§5.3.2)", () => {
    const { bench } = multiport();
    expect(bench.queues).toHaveLength(8);
    expect(bench.endpoint.readConfig(4, 4)).toBe(3);
  });

  it("tells the driver its ports once it is asked, and their names once they are there (§5.3.5)", () => {
    const { offer, say, heard } = multiport();
    for (let i = 0; i < 10; i++) offer(2);
    expect(heard()).toEqual([]);
    say(0xff, DEVICE_READY, 1);
    expect(heard()).toEqual([
      [0, ADD, 0],
      [1, ADD, 0],
      [2, ADD, 0],
    ]);
    say(1, PORT_READY, 1);
    expect(heard()).toEqual([
      [1, NAME, 1, "agent"],
      [1, OPEN, 1],
    ]);
    say(0, PORT_READY, 1);
    expect(heard()).toEqual([
      [0, CONSOLE, 1],
      [0, OPEN, 1],
      [0, RESIZE, 1, "\0\0\0\0"],
    ]);
  });

  it("waits for buffers of the control queue, and owes each message once", () => {
    const { offer, say, heard } = multiport();
    for (let i = 0; i < 100; i++) say(0, DEVICE_READY, 1);
    for (let i = 0; i < 8; i++) offer(2);
    expect(heard()).toHaveLength(3);
  });

  it("keeps input for a port until a program of the guest opens it", () => {
    const { agent, offer, collect, say } = added();
    offer(4);
    agent.type("ping");
    expect(collect(4)).toEqual([]);
    say(1, OPEN, 1);
    expect(collect(4)).toEqual([Uint8Array.from("ping", (char) => char.charCodeAt(0))]);
    say(1, OPEN, 0);
    offer(4);
    agent.type("more");
    expect([collect(4), agent.waiting]).toEqual([[], 4]);
  });

  it("keeps ports apart", () => {
    const { console, agent, log, send } = added();
    send(1, Uint8Array.of(0x61));
    send(5, Uint8Array.of(0x62));
    send(7, Uint8Array.of(0x63));
    expect([console.text, agent.text, log.text]).toEqual(["a", "b", "c"]);
  });

  it("tells when somebody comes to the host's end of a port or goes", () => {
    const { agent, heard } = added();
    agent.setPresent(false);
    agent.setPresent(true);
    expect(heard()).toEqual([
      [1, OPEN, 0],
      [1, OPEN, 1],
    ]);
  });

  it("resizes its console by a message (§5.3.6.2)", () => {
    const { device, bench, heard } = added();
    device.resize(80, 25);
    expect(heard()).toEqual([[0, RESIZE, 1, String.fromCharCode(80, 0, 25, 0)]]);
    expect(bench.configInterrupts).toBe(0);
  });

  it("obeys the monitor", async () => {
    const { device, heard } = added();
    expect(await device.monitorCommand(["resize", "100", "30"])).toBe("100 columns, 30 rows");
    expect(heard()).toEqual([[0, RESIZE, 1, String.fromCharCode(100, 0, 30, 0)]]);
    await expect(device.monitorCommand(["resize", "100"])).rejects.toThrow(/expected resize COLUMNS ROWS/);
  });

  it("knows after a restore which ports are open, and tells of a peer that is gone", () => {
    const a = added();
    a.say(1, OPEN, 1);
    a.agent.setPresent(false);
    a.heard();
    const b = multiport(a);
    expect(b.heard()).toEqual([[1, OPEN, 1]]); // there is somebody at the restored one's
    b.offer(4);
    b.agent.type("x");
    expect(b.collect(4)).toEqual([Uint8Array.of(0x78)]);
  });

  it("ignores a driver's messages about ports there are not, and too short ones", () => {
    const { bench, send, say } = added();
    say(9, PORT_READY, 1);
    say(0, 77, 1);
    send(3, Uint8Array.of(1, 2));
    expect(bench.endpoint.stats()["controlLost"]).toBe(3);
  });

  it.each(["", "a/b", "x".repeat(65), "käse"])("refuses %j as a name", (name) => {
    const backend = new FakeCharBackend();
    expect(() => new VirtioConsole({ backend, ports: [{ name, backend }] })).toThrow(/ports\[0\]\.name/);
  });

  it("refuses a name that comes twice", () => {
    const backend = new FakeCharBackend();
    const ports = [
      { name: "a", backend },
      { name: "a", backend },
    ];
    expect(() => new VirtioConsole({ backend, ports })).toThrow(/ports\[1\]\.name: "a" is there already/);
  });
});
