import { VirtioBench } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { HeldAnswers, settle } from "../../test/driven/held-answers.ts";
import { MemoryTree } from "../../test/driven/memory-tree.ts";
import { VirtioFs } from "./virtio-fs.ts";

// linux/include/uapi/linux/fuse.h, virtio 1.3 §2.1, §5.11.
const [LOOKUP, FORGET, READ, WRITE, FSYNC, INIT, CREATE] = [1, 2, 15, 16, 20, 26, 35];
const [HIPRIO, REQUESTS, MORE] = [0, 1, 2];
const IN_HEADER = 40;
const OUT_HEADER = 16;
const ROOT = 1;
const [ENOENT, EBADF] = [-2, -9];
const DEVICE_NEEDS_RESET = 0x40;
const NODE_IN_ENTRY = OUT_HEADER;
const HANDLE_IN_CREATE = OUT_HEADER + 128;

const u32 = (...words: readonly number[]): number[] =>
  words.flatMap((word) => [word & 255, (word >> 8) & 255, (word >> 16) & 255, word >>> 24]);
const text = (name: string): number[] => [...Array.from(name, (char) => char.charCodeAt(0)), 0];

interface Answer {
  readonly gpa: number;
  /** Undefined until it comes. */
  written?: number;
}

/** A mounted directory, and what its driver asks. */
class FsDriver {
  readonly answers = new HeldAnswers();
  readonly tree = new MemoryTree(this.answers);
  readonly bench = new VirtioBench(this.device()).start();
  readonly #asked = new Map<string, Answer>();
  #unique = 0;

  constructor() {
    this.answers.isHolding = false;
  }

  device(): VirtioFs {
    return new VirtioFs({ tree: this.tree, tag: "shared", requestQueues: 2 });
  }

  /** Puts a request into a queue. */
  ask(queue: number, opcode: number, node: number, args: readonly number[], room = 256): Answer {
    const length = IN_HEADER + args.length;
    const header = [...u32(length, opcode, ++this.#unique, 0, node, 0, 0, 0, 0, 0)];
    const request = { gpa: this.bench.allocBytes(Uint8Array.from([...header, ...args])), length };
    const answer: Answer = { gpa: this.bench.allocBytes(new Uint8Array(room).fill(0xee)) };
    const into = room === 0 ? [] : [{ gpa: answer.gpa, length: room }];
    this.#asked.set(`${queue} ${this.bench.queue(queue).add([request], into)}`, answer);
    this.bench.kick(queue);
    this.collect();
    return answer;
  }

  /** Notes what has come. */
  collect(): void {
    this.bench.queues.forEach((queue, index) => {
      for (const { id, written } of queue.collect()) this.#asked.get(`${index} ${id}`)!.written = written;
    });
  }

  /** The error of an answer that is `written` long, as its header says, and is the one to the last request. */
  errorOf({ gpa, written }: Answer): number {
    const [length, error, unique] = [0, 4, 8].map((at) => this.bench.memory.readU32(gpa + at));
    expect([length, unique]).toEqual([written, this.#unique]);
    return error! | 0;
  }

  /** Makes a file: its node and a handle of it. */
  create(name: string): readonly [node: number, handle: number] {
    const answer = this.ask(REQUESTS, CREATE, ROOT, [...u32(2, 0o100644, 0, 0), ...text(name)]);
    expect(this.errorOf(answer)).toBe(0);
    return [NODE_IN_ENTRY, HANDLE_IN_CREATE].map((at) =>
      this.bench.memory.readU32(answer.gpa + at),
    ) as unknown as readonly [number, number];
  }

  sync(queue: number, handle: number): Answer {
    return this.ask(queue, FSYNC, ROOT, u32(handle, 0, 0, 0));
  }
}

describe("VirtioFs", () => {
  it("has its tag, padded, and so many request queues behind the one of high priority (§5.11.2, §5.11.4)", () => {
    const { endpoint } = new FsDriver().bench;
    const config = Array.from({ length: 40 }, (_, at) => endpoint.readConfig(at, 1));
    expect(config).toEqual([...text("shared"), ...new Array<number>(29).fill(0), ...u32(2)]);
    expect(endpoint.queues.length).toBe(3);
  });

  it("answers requests of any queue with header and error", () => {
    const driver = new FsDriver();
    expect(driver.errorOf(driver.ask(MORE, INIT, 0, u32(7, 38, 0, 0)))).toBe(0);
    expect(driver.errorOf(driver.ask(REQUESTS, LOOKUP, ROOT, text("nothing")))).toBe(ENOENT);
    const [node] = driver.create("file");
    const found = driver.ask(MORE, LOOKUP, ROOT, text("file"));
    expect(driver.errorOf(found)).toBe(0);
    expect(driver.bench.memory.readU32(found.gpa + NODE_IN_ENTRY)).toBe(node);
    expect(driver.ask(HIPRIO, FORGET, node, u32(1, 0), 0).written).toBe(0);
    expect(driver.bench.endpoint.stats()).toMatchObject({ requests: 5, syncs: 0 });
  });

  it("moves data between the file and the request, and says how much", () => {
    const driver = new FsDriver();
    const [, handle] = driver.create("file");
    const data = [1, 2, 3, 4, 5];
    const put = driver.ask(REQUESTS, WRITE, ROOT, [...u32(handle, 0, 0, 0, 5, 0, 0, 0, 0, 0), ...data]);
    expect([driver.errorOf(put), driver.bench.memory.readU32(put.gpa + OUT_HEADER)]).toEqual([0, 5]);
    const got = driver.ask(REQUESTS, READ, ROOT, u32(handle, 0, 2, 0, 100, 0, 0, 0, 0, 0));
    expect(driver.errorOf(got)).toBe(0);
    const bytes = driver.bench.bytes(got.gpa + OUT_HEADER, 4);
    expect([got.written, ...bytes]).toEqual([OUT_HEADER + 3, 3, 4, 5, 0xee]); // and nothing behind
  });

  it("needs a reset after a request that is too short for a header", () => {
    const { bench } = new FsDriver();
    bench
      .queue(REQUESTS)
      .add([{ gpa: bench.alloc(IN_HEADER), length: IN_HEADER - 1 }], [{ gpa: bench.alloc(16), length: 16 }]);
    bench.kick(REQUESTS);
    expect(bench.endpoint.status & DEVICE_NEEDS_RESET).toBe(DEVICE_NEEDS_RESET);
    expect(bench.endpoint.stats()["needsReset.malformedRequest"]).toBe(1);
  });

  it("serves others while the host syncs, and answers once it has", async () => {
    const driver = new FsDriver();
    const [, handle] = driver.create("file");
    driver.answers.isHolding = true;
    const sync = driver.sync(REQUESTS, handle);
    const none = driver.ask(REQUESTS, LOOKUP, ROOT, text("nothing"));
    expect([sync.written, none.written]).toEqual([undefined, OUT_HEADER]);
    driver.answers.answer(1);
    await settle();
    driver.collect();
    expect([sync.written, driver.bench.memory.readU32(sync.gpa + 4)]).toEqual([OUT_HEADER, 0]);
    expect(driver.bench.endpoint.stats()).toMatchObject({ syncs: 1 });
  });

  it("is reset once the host has nothing under way: no answer comes, and no file is open any more", async () => {
    const driver = new FsDriver();
    const [, handle] = driver.create("file");
    driver.answers.isHolding = true;
    const sync = driver.sync(REQUESTS, handle);
    driver.bench.endpoint.setStatus(0);
    await settle();
    expect(driver.bench.endpoint.status).not.toBe(0);
    await driver.answers.answerAll(1);
    expect(driver.bench.endpoint.status).toBe(0);
    driver.collect();
    expect(sync.written).toBeUndefined();
    driver.answers.isHolding = false;
    driver.bench.start();
    const stale = driver.sync(REQUESTS, handle);
    await settle();
    driver.collect();
    expect(driver.errorOf(stale)).toBe(EBADF);
  });

  it("resets one queue once that has nothing under way, whatever others have", async () => {
    const driver = new FsDriver();
    const [, handle] = driver.create("file");
    driver.answers.isHolding = true;
    const [first, other] = [driver.sync(REQUESTS, handle), driver.sync(MORE, handle)];
    const { endpoint } = driver.bench;
    endpoint.resetQueue(REQUESTS);
    await settle();
    expect(endpoint.queues[REQUESTS]?.isResetting).toBe(true);
    driver.answers.answer(1); // the oldest
    driver.answers.isHolding = false;
    driver.answers.answer(0);
    await settle();
    expect(endpoint.queues[REQUESTS]?.isResetting).toBe(false);
    driver.collect();
    expect([first.written, other.written]).toEqual([undefined, OUT_HEADER]);
  });

  it("takes nothing while it is paused, and goes on where it was", async () => {
    const driver = new FsDriver();
    const [, handle] = driver.create("file");
    driver.answers.isHolding = true;
    const sync = driver.sync(REQUESTS, handle);
    let isPaused = false;
    const paused = driver.bench.endpoint.pause().then(() => (isPaused = true));
    const late = driver.ask(MORE, LOOKUP, ROOT, text("file"));
    await settle();
    expect([isPaused, late.written]).toEqual([false, undefined]);
    await driver.answers.answerAll(1);
    await paused;
    driver.collect();
    expect([sync.written, late.written]).toEqual([OUT_HEADER, undefined]);
    driver.bench.endpoint.resume();
    driver.collect();
    expect(driver.errorOf(late)).toBe(0);
  });

  it("has the files of a saved machine open, and refuses what another version saved", async () => {
    const driver = new FsDriver();
    const [node, handle] = driver.create("file");
    await driver.bench.endpoint.pause();
    const state = JSON.parse(JSON.stringify(driver.bench.endpoint.save())) as ReturnType<
      typeof driver.bench.endpoint.save
    >;
    driver.tree.forgetAll(); // as another process's
    const { endpoint } = new VirtioBench(driver.device(), { memory: driver.bench.memory });
    endpoint.restore(state);
    endpoint.resume();
    Object.assign(driver.bench, { endpoint });
    const sync = driver.sync(REQUESTS, handle);
    await settle();
    driver.collect();
    expect(driver.errorOf(sync)).toBe(0);
    expect(driver.ask(HIPRIO, FORGET, node, u32(1, 0), 0).written).toBe(0);
    const strange = { ...state, device: { version: 2, tree: {} } };
    expect(() => {
      new VirtioBench(driver.device(), { memory: driver.bench.memory }).endpoint.restore(strange);
    }).toThrow("version 2, expected 1");
  });
});
