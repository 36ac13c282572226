import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LoopbackNet, SlottedGuestMemory } from "@northbridge/core";
import { VirtioNet } from "@northbridge/devices-virtio";
import { close, createMemfd, SharedMapping } from "@northbridge/linux";
import { FakeMemory, VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";
import type { EndpointStateV1, VirtioEndpoint } from "@northbridge/sdk/virtio";
import { VhostUserBackend } from "@northbridge/vhost-user";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { vhostUserCard } from "./net-front-end.ts";

/** `dpdk-testpmd` (Debian: dpdk-dev), with more arguments of its EAL where it needs some. */
const command = process.env["NORTHBRIDGE_DPDK"] ?? "";
if (command === "") console.log("no NORTHBRIDGE_DPDK=dpdk-testpmd: DPDK's back end is not tried");

const MAC = [0x52, 0x54, 0, 0, 0, 7];
const HEADER = 12;
const BUFFER = 2048;
const BUFFERS = 8;
const RAM = 4 << 20;
// Virtio 1.3 §5.1.3, §5.1.6.5.
const [CTRL_VQ, MQ] = [17, 22];
const [OK, ERR] = [0, 1];
const VQ_PAIRS_SET = [4, 0];

/** TCP over IPv4 from the card to itself. */
const frame = (port: number): Uint8Array => {
  const ip = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1];
  const tcp = [port >> 8, port & 0xff, port >> 8, port & 0xff, ...new Array<number>(16).fill(0)];
  return Uint8Array.from([...new Uint8Array(HEADER), ...MAC, ...MAC, 8, 0, ...ip, ...tcp]);
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const until = async (isSo: () => boolean): Promise<void> => {
  for (let patience = 0; !isSo(); patience++) {
    if (patience === 100_000) expect.fail(`never came: ${isSo.toString()}`);
    await turn();
  }
};

/** A driver of the card, whose rings outlive the machine. */
class CardDriver {
  readonly bench: VirtioBench;
  endpoint: VirtioEndpoint;

  constructor(bench: VirtioBench) {
    this.bench = bench;
    this.endpoint = bench.endpoint;
  }

  notify(index: number): void {
    if (this.bench.queue(index).needsNotification()) this.endpoint.notify(index);
  }

  /** Gives the receive queues of these pairs buffers. */
  offer(...pairs: readonly number[]): void {
    for (const pair of pairs) {
      for (let i = 0; i < BUFFERS; i++)
        this.bench.queue(2 * pair).add([], [{ gpa: this.bench.alloc(BUFFER), length: BUFFER }]);
      this.notify(2 * pair);
    }
  }

  /** The answer to a command. */
  async command(queue: number, ...bytes: readonly number[]): Promise<number> {
    const command = this.bench.allocBytes(Uint8Array.from(bytes));
    const answer = this.bench.allocBytes(Uint8Array.of(0xff));
    this.bench.queue(queue).add([{ gpa: command, length: bytes.length }], [{ gpa: answer, length: 1 }]);
    this.notify(queue);
    await until(() => this.bench.queue(queue).collect().length === 1);
    return this.bench.memory.readU8(answer);
  }

  /** Sends by a pair what belongs to the stream of a port: the pair by which it comes back. */
  async sendsBack(pair: number, port: number): Promise<number> {
    const bytes = frame(port);
    const gpa = this.bench.allocBytes(bytes);
    this.bench.queue(2 * pair + 1).add([{ gpa, length: bytes.length }], []);
    this.notify(2 * pair + 1);
    const receivers = [0, 1].filter((each) => 2 * each + 1 < this.bench.queues.length);
    let by: number | undefined;
    await until(() => {
      by = receivers.find((each) => this.bench.queue(2 * each).collect().length > 0);
      return by !== undefined;
    });
    await until(() => this.bench.queue(2 * pair + 1).collect().length === 1);
    return by!;
  }
}

const isHere = process.platform === "linux" && process.arch === "x64";

describe.skipIf(!isHere)("vhostUserNet with several queue pairs (needs Linux on x86-64)", () => {
  let directory: string;
  let socket: string;
  let fd: number;
  let mapping: SharedMapping;
  let memory: FakeMemory;
  const closers: (() => void | Promise<void>)[] = [];

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    directory = mkdtempSync(join(tmpdir(), "northbridge-pairs-"));
    socket = join(directory, "net.sock");
    fd = createMemfd("guest memory", RAM);
    mapping = new SharedMapping(fd, RAM, "guest memory");
    memory = new FakeMemory(new Uint8Array(mapping.buffer, 0, RAM));
  });
  afterEach(async () => {
    for (const end of closers.splice(0).reverse()) await end();
    vi.useRealTimers();
    mapping.unmap();
    close(fd);
    rmSync(directory, { recursive: true });
  });

  const serve = (pairs = 2): VhostUserBackend => {
    const device = new VirtioNet({ backend: new LoopbackNet(), mac: Uint8Array.from(MAC), pairs });
    const backend = new VhostUserBackend({
      device,
      createMemory: (slots, written) => new SlottedGuestMemory(slots, written),
    });
    backend.listen(socket);
    closers.push(() => backend.close());
    return backend;
  };
  const connect = async (queuePairs = 2): ReturnType<typeof vhostUserCard> => {
    const regions = [{ gpa: 0, size: RAM, userAddress: 0, fd, offset: 0 }];
    const made = await vhostUserCard({ socket, mac: Uint8Array.from(MAC), queuePairs, ram: { regions } });
    closers.push(made.close);
    return made;
  };
  const driver = async (options: VirtioBenchOptions = {}): Promise<CardDriver> =>
    new CardDriver(new VirtioBench((await connect()).card, { memory, ...options }).start());

  it("shows the guest all pairs, and has the back end use those it asks for", async () => {
    serve();
    const card = await driver();
    const { endpoint } = card;
    expect([MQ, CTRL_VQ].map((bit) => endpoint.features.has(bit))).toEqual([true, true]);
    expect([endpoint.queues.length, endpoint.readConfig(8, 2)]).toEqual([5, 2]);
    card.offer(0, 1);
    expect(await card.sendsBack(0, 2000)).toBe(0);
    expect(await card.command(4, ...VQ_PAIRS_SET, 2, 0)).toBe(OK);
    expect(await card.sendsBack(0, 1000)).toBe(0);
    expect(await card.sendsBack(1, 2000)).toBe(1);
    expect(await card.command(4, ...VQ_PAIRS_SET, 1, 0)).toBe(OK);
    expect(await card.sendsBack(0, 2000)).toBe(0);
    for (const pairs of [[0, 0], [3, 0], [2], [2, 0, 0]])
      expect(await card.command(4, ...VQ_PAIRS_SET, ...pairs)).toBe(ERR);
    expect(await card.command(4, 0, 0, 1)).toBe(ERR); // CTRL_RX was not offered
    expect(endpoint.stats()).toMatchObject({ pairs: 1, commandsRefused: 5 });
  });

  it("has one pair, and the control queue behind it, with a driver that wants no more", async () => {
    serve();
    const card = await driver({ accept: (bit) => bit !== MQ });
    card.offer(0);
    expect(await card.command(2, ...VQ_PAIRS_SET, 2, 0)).toBe(ERR);
    expect(await card.sendsBack(0, 1000)).toBe(0);
  });

  it("uses as many pairs as before with the next back end, and one after a reset", async () => {
    const first = serve();
    const card = await driver();
    card.offer(0, 1);
    expect(await card.command(4, ...VQ_PAIRS_SET, 2, 0)).toBe(OK);
    expect(await card.sendsBack(1, 2000)).toBe(1);
    await first.close();
    await until(() => card.endpoint.readConfig(6, 2) === 0); // the cable is out
    serve();
    await until(() => {
      vi.advanceTimersByTime(1000);
      return card.endpoint.readConfig(6, 2) === 1;
    });
    expect(await card.sendsBack(1, 3000)).toBe(1);
    expect(await card.sendsBack(0, 4000)).toBe(0);

    card.endpoint.setStatus(0);
    await until(() => card.endpoint.status === 0);
    card.bench.start();
    card.offer(0, 1);
    expect(card.endpoint.stats()).toMatchObject({ pairs: 1 });
    expect(await card.sendsBack(0, 3000)).toBe(0);
  });

  it("uses as many pairs as before in a restored machine, whose command was under way", async () => {
    serve();
    const first = await connect();
    const card = new CardDriver(new VirtioBench(first.card, { memory }).start());
    card.offer(0, 1);
    expect(await card.command(4, ...VQ_PAIRS_SET, 2, 0)).toBe(OK);
    expect(await card.sendsBack(1, 2000)).toBe(1);
    await card.endpoint.pause();
    const late = card.command(4, ...VQ_PAIRS_SET, 2, 0);
    const state = JSON.parse(JSON.stringify(card.endpoint.save())) as EndpointStateV1;
    first.close();
    const { endpoint } = new VirtioBench((await connect()).card, { memory });
    endpoint.restore(state);
    card.endpoint = endpoint;
    endpoint.resume();
    expect(await late).toBe(OK);
    expect(await card.sendsBack(1, 5000)).toBe(1);
    expect(await card.sendsBack(0, 6000)).toBe(0);
  });

  it("refuses a back end of fewer pairs", async () => {
    serve(1);
    await expect(connect()).rejects.toThrow(`${socket}: expected 4 queues, found 2`);
  });

  // A back end of several pairs that is not ours: frames go round in it, each by the pair that it came by.
  it.skipIf(command === "")("has DPDK's net_vhost carry the frames of two pairs", async () => {
    vi.useRealTimers();
    const [program = "", ...more] = command.split(" ");
    const eal = ["-l", "0-1", "--no-huge", "-m", "256", "--no-pci", `--file-prefix=nb${process.pid}`];
    const vdev = `--vdev=net_vhost0,iface=${socket},queues=2`;
    const forward = ["--total-num-mbufs=2048", "--rxq=2", "--txq=2", "--forward-mode=io"];
    const testpmd = spawn(program, [...more, ...eal, vdev, "--", ...forward], { stdio: "pipe" });
    let output = "";
    for (const stream of [testpmd.stdout, testpmd.stderr])
      stream.on("data", (bytes) => (output += String(bytes)));
    const ended = once(testpmd, "exit");
    closers.push(async () => {
      testpmd.kill("SIGKILL");
      await ended;
    });
    const card = await vi.waitFor(() => driver(), 30_000); // it listens
    card.offer(0, 1);
    for (const pairs of [2, 1, 2]) {
      expect(await card.command(4, ...VQ_PAIRS_SET, pairs, 0), output).toBe(OK);
      for (let pair = 0; pair < pairs; pair++)
        for (let i = 0; i < 2; i++) expect(await card.sendsBack(pair, 1000 + i), output).toBe(pair);
    }
  });
});
