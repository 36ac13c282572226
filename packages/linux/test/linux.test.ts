import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, it, vi } from "vitest";
import * as linux from "../src/index.ts";

const openFds = (): number => readdirSync("/proc/self/fd").length;

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "Linux system calls (needs Linux on x86-64)",
  () => {
    it("opens, reads, writes and closes files", () => {
      const directory = mkdtempSync(join(tmpdir(), "northbridge-linux-"));
      try {
        const path = join(directory, "file");
        writeFileSync(path, "hello");
        const fd = linux.open(path, linux.OpenFlag.O_RDWR);
        const buffer = new linux.RootedBuffer(16);
        expect(linux.read(fd, buffer)).toBe(5);
        expect(new TextDecoder().decode(buffer.bytes.subarray(0, 5))).toBe("hello");
        expect(linux.write(fd, linux.RootedBuffer.from(new TextEncoder().encode(", you")))).toBe(5);
        linux.ftruncate(fd, 8);
        linux.close(fd);
        expect(readFileSync(path, "utf8")).toBe("hello, y");
      } finally {
        rmSync(directory, { recursive: true });
      }
    });

    it("says which call failed, why and on what", () => {
      const failure = (body: () => unknown): unknown => {
        try {
          body();
        } catch (error) {
          return error;
        }
        return undefined;
      };
      const missing = failure(() => linux.open("/nowhere/at/all", 0));
      expect(missing).toBeInstanceOf(linux.SystemCallError);
      expect(missing).toMatchObject({ code: "NB_HOST", syscall: "open", errno: "ENOENT" });
      expect((missing as Error).message).toBe("/nowhere/at/all: open failed with ENOENT");
      expect(
        failure(() => {
          linux.close(100_000);
        }),
      ).toMatchObject({ syscall: "close", errno: "EBADF" });
      const fd = linux.open("/dev/null", linux.OpenFlag.O_RDWR);
      expect(failure(() => linux.ioctl(fd, 0x5401, 0, "TCGETS"))).toMatchObject({ errno: "ENOTTY" });
      expect(
        failure(() => linux.ioctlBuffer(fd, 0x5401, new linux.RootedBuffer(64), "TCGETS")),
      ).toMatchObject({
        message: "TCGETS: ioctl failed with ENOTTY",
      });
      linux.close(fd);
    });

    it("asks the kernel which addresses are its own", () => {
      const routes = new linux.HostRoutes();
      const isLocal = (text: string): boolean => routes.isLocal(Uint8Array.from(text.split("."), Number));
      const own = Object.values(networkInterfaces()).flatMap((one) => one ?? []);
      for (const { family, address } of own) if (family === "IPv4") expect(isLocal(address)).toBe(true);
      expect(isLocal("127.255.3.4")).toBe(true);
      // RFC 5737: nobody's.
      expect(isLocal("192.0.2.1")).toBe(false);
      routes.close();
    });

    it("locks ranges against other descriptions of the file, and finds and makes holes", () => {
      const directory = mkdtempSync(join(tmpdir(), "northbridge-linux-"));
      try {
        const path = join(directory, "file");
        writeFileSync(path, new Uint8Array(1 << 20).fill(1));
        const one = linux.open(path, linux.OpenFlag.O_RDWR);
        const two = linux.open(path, linux.OpenFlag.O_RDWR);
        expect(linux.setRangeLock(one, linux.RangeLock.F_RDLCK, 100, 2)).toBe(true);
        expect(linux.canLockRange(two, linux.RangeLock.F_WRLCK, 101, 1)).toBe(false);
        expect(linux.canLockRange(two, linux.RangeLock.F_WRLCK, 102, 1)).toBe(true);
        expect(linux.canLockRange(two, linux.RangeLock.F_RDLCK, 101, 1)).toBe(true);
        expect(linux.setRangeLock(two, linux.RangeLock.F_WRLCK, 101, 1)).toBe(false);
        linux.close(one);
        expect(linux.setRangeLock(two, linux.RangeLock.F_WRLCK, 101, 1)).toBe(true);
        const { KEEP_SIZE, PUNCH_HOLE } = linux.FallocateMode;
        if (linux.fallocate(two, KEEP_SIZE | PUNCH_HOLE, 1 << 16, 1 << 17)) {
          expect(linux.seekHole(two, 0)).toBe(1 << 16);
          expect(linux.seekData(two, 1 << 16)).toBe(3 << 16);
        }
        expect(linux.seekHole(two, 3 << 16)).toBe(1 << 20);
        expect(linux.seekData(two, 1 << 20)).toBe(undefined);
        linux.close(two);
      } finally {
        rmSync(directory, { recursive: true });
      }
    });

    it("shares a memfd between mappings, threads and holders of the descriptor", async () => {
      const fd = linux.createMemfd("test", 2 * linux.PAGE_SIZE);
      const one = new linux.SharedMapping(fd, 2 * linux.PAGE_SIZE, "one");
      const two = new linux.SharedMapping(fd, 2 * linux.PAGE_SIZE, "two");
      const bytes = new Uint8Array(one.buffer);
      bytes[5] = 42;
      expect(new Uint8Array(two.buffer)[5]).toBe(42);
      expect(one.address % 4096n).toBe(0n);
      const worker = new Worker(
        `const { workerData } = require("node:worker_threads"); new Uint8Array(workerData)[6] = 43;`,
        { eval: true, workerData: one.buffer },
      );
      await new Promise((resolve) => worker.once("exit", resolve));
      const buffer = new linux.RootedBuffer(8);
      linux.read(fd, buffer);
      expect([...buffer.bytes]).toEqual([0, 0, 0, 0, 0, 42, 43, 0]);
      linux.addSeals(fd, linux.Seal.SHRINK | linux.Seal.GROW);
      expect(() => {
        linux.ftruncate(fd, 0);
      }).toThrow("EPERM");
      one.unmap();
      expect(bytes[5]).toBe(0);
      expect(new Uint8Array(two.buffer)[5]).toBe(42);
      two.unmap();
      linux.close(fd);
    });

    it("counts events, and polls for them", () => {
      const event = new linux.EventFd();
      expect(event.drain()).toBe(0n);
      expect(linux.poll(event.fd, linux.PollEvent.POLLIN, 0)).toBe(0);
      event.signal();
      event.signal();
      expect(linux.poll(event.fd, linux.PollEvent.POLLIN, 1000)).toBe(linux.PollEvent.POLLIN);
      expect(event.drain()).toBe(2n);
      expect(event.drain()).toBe(0n);
      event.close();
    });

    it("passes descriptors through a socket, and closes those that do not fit", () => {
      const before = openFds();
      const [left, right] = linux.socketPair();
      const event = new linux.EventFd();
      const other = new linux.EventFd();
      expect(linux.sendMessage(left, Uint8Array.of(1, 2, 3), [event.fd, other.fd])).toBe(3);
      const message = linux.receiveMessage(right, 64)!;
      expect([...message.bytes]).toEqual([1, 2, 3]);
      expect(message.fds).toHaveLength(2);
      const value = new linux.RootedBuffer(8);
      event.signal();
      expect(linux.read(message.fds[0]!, value)).toBe(8);
      expect(value.view.getBigUint64(0, true)).toBe(1n);
      for (const fd of message.fds) linux.close(fd);
      linux.sendMessage(left, Uint8Array.of(4), [event.fd, other.fd, event.fd, other.fd, event.fd]);
      expect(() => linux.receiveMessage(right, 64, 1)).toThrow("more than 1 descriptors");
      linux.close(left);
      expect(linux.receiveMessage(right, 64)).toEqual({ bytes: new Uint8Array(), fds: [] });
      linux.close(right);
      event.close();
      other.close();
      expect(openFds()).toBe(before);
    });

    it("connects Unix sockets and hears of events without blocking", async () => {
      const directory = mkdtempSync(join(tmpdir(), "northbridge-linux-"));
      try {
        const path = join(directory, "socket");
        const listener = linux.listenUnix(path);
        expect(linux.acceptUnix(listener)).toBeUndefined();
        expect(() => linux.listenUnix(path)).toThrow(`${path}: bind failed with EADDRINUSE`);
        expect(() => linux.connectUnix(join(directory, "none"))).toThrow("ENOENT");
        expect(() => linux.listenUnix(`/${"x".repeat(108)}`)).toThrow("ENAMETOOLONG");
        const connected = Promise.withResolvers<number>();
        const watch = new linux.FdWatch(listener, () => {
          connected.resolve(linux.acceptUnix(listener)!);
        });
        const client = linux.connectUnix(path);
        const server = await connected.promise;
        watch.close();
        expect(linux.receiveMessage(server, 8)).toBeUndefined();
        const event = new linux.EventFd();
        linux.sendMessage(client, Uint8Array.of(7), [event.fd, listener]);
        const { fds } = linux.receiveMessage(server, 8)!;
        const passed = linux.EventFd.adopt(fds[0]!);
        expect(() => linux.EventFd.adopt(fds[1]!)).toThrow("not an event counter");
        const kicked = Promise.withResolvers<undefined>();
        const kicks = new linux.FdWatch(passed.fd, () => {
          if (passed.drain() > 0n) kicked.resolve(undefined);
        });
        event.signal();
        await kicked.promise;
        kicks.close();
        kicks.close();
        passed.close();
        for (const fd of [fds[1]!, client, server, listener]) linux.close(fd);
        event.close();
      } finally {
        rmSync(directory, { recursive: true });
      }
    });

    it("reports what a watch's callback throws, and calls it again", async () => {
      const event = new linux.EventFd();
      const reports: (() => void)[] = [];
      const report = vi.spyOn(globalThis, "queueMicrotask").mockImplementation((what) => {
        reports.push(what);
      });
      let calls = 0;
      const twice = Promise.withResolvers<undefined>();
      const watch = new linux.FdWatch(event.fd, () => {
        event.drain();
        if (++calls === 2) twice.resolve(undefined);
        throw new Error(`call ${calls}`);
      });
      try {
        event.signal();
        while (calls === 0) await new Promise((done) => setImmediate(done));
        event.signal(); // no other's error comes out of this call
        await twice.promise;
        expect(reports).toHaveLength(2);
        expect(reports[0]).toThrow("call 1");
      } finally {
        report.mockRestore();
        watch.close();
        event.close();
      }
    });

    it("maps a part of a file, and a file under memory in use", () => {
      const fd = linux.createMemfd("parts", 3 * linux.PAGE_SIZE);
      const part = new linux.SharedMapping(fd, linux.PAGE_SIZE, "part", linux.PAGE_SIZE);
      const other = linux.createMemfd("other", 3 * linux.PAGE_SIZE);
      const { buffer } = new linux.SharedMapping(other, 3 * linux.PAGE_SIZE, "other");
      const memory = new Uint8Array(buffer, linux.PAGE_SIZE, 2 * linux.PAGE_SIZE);
      memory[linux.PAGE_SIZE + 3] = 42;
      linux.mapUnder(memory, fd, "memory");
      expect(new Uint8Array(part.buffer)[3]).toBe(42);
      new Uint8Array(part.buffer)[4] = 43;
      expect(memory[linux.PAGE_SIZE + 4]).toBe(43);
      expect(() => {
        linux.mapUnder(memory.subarray(1), fd, "half a page");
      }).toThrow("half a page: not whole pages of memory");
      expect(linux.sealsOf(fd)).toBe(0);
      linux.addSeals(fd, linux.Seal.SHRINK);
      expect(linux.sealsOf(fd)).toBe(linux.Seal.SHRINK);
      part.unmap();
      linux.close(fd);
      linux.close(other);
    });

    it("gives pages back: they read as zeros, and hold no memory", () => {
      const resident = (): number =>
        Number(/Rss:\s+(\d+)/.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))?.[1]);
      const fd = linux.createMemfd("discarded", 16 << 20);
      const shared = new linux.SharedMapping(fd, 16 << 20, "discarded");
      const { Memory } = (
        globalThis as unknown as {
          WebAssembly: { Memory: new (of: object) => { buffer: SharedArrayBuffer } };
        }
      ).WebAssembly;
      const anonymous = new Memory({ initial: 256, maximum: 256, shared: true });
      for (const buffer of [shared.buffer, anonymous.buffer]) {
        const bytes = new Uint8Array(buffer).fill(7);
        const before = resident();
        linux.discardPages(bytes.subarray(linux.PAGE_SIZE, -linux.PAGE_SIZE));
        expect(before - resident()).toBeGreaterThan(14_000); // KiB
        if (buffer === shared.buffer)
          expect(statSync(`/proc/self/fd/${fd}`).blocks).toBe((2 * linux.PAGE_SIZE) / 512);
        expect([0, 1, 2, -2, -1].map((page) => bytes.at(page * linux.PAGE_SIZE))).toEqual([7, 0, 0, 0, 7]);
        expect(() => {
          linux.discardPages(bytes.subarray(1));
        }).toThrow("not whole pages of memory");
      }
      shared.unmap();
      linux.close(fd);
    });

    it("names threads and interrupts a system call of one by a signal", async () => {
      const SIGNAL = 41;
      linux.interruptOn(SIGNAL);
      const source = `
      import { parentPort } from "node:worker_threads";
      import * as linux from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
      linux.nameThread("a rather long name");
      parentPort.postMessage(linux.gettid());
      try { linux.poll(-1, 0, 20000); parentPort.postMessage("timeout"); }
      catch (error) { parentPort.postMessage(error.errno); }`;
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
      const messages: unknown[] = [];
      const next = (): Promise<unknown> => new Promise((resolve) => worker.once("message", resolve));
      const tid = (await next()) as number;
      expect(readFileSync(`/proc/self/task/${tid}/comm`, "utf8")).toBe("a rather long n\n");
      const answer = next().then((message) => messages.push(message));
      // It may not have reached the call yet.
      while (messages.length === 0) {
        linux.signalThread(tid, SIGNAL);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await answer;
      expect(messages).toEqual(["EINTR"]);
      await worker.terminate();
    });
  },
);
