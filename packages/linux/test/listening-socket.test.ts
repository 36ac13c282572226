import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  acceptUnix,
  bindUnixDatagrams,
  close,
  connectUnix,
  DirectoryLock,
  listenAt,
  ListeningSocket,
  listenUnix,
} from "../src/index.ts";
import { probeUnix } from "../src/sockets.ts";

const CLAIM = join(import.meta.dirname, "claim.child.ts");

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "northbridge-socket-"));
  path = join(directory, "s");
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** What a process leaves that was killed: unix(7) removes no file. */
const leaveAt = (at: string): void => {
  close(listenUnix(at));
};

async function ended(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}

/** Processes that try to listen at all of `paths` at the same moment, and at which each does. */
async function claimAtOnce(processes: number, paths: readonly string[]): Promise<(readonly boolean[])[]> {
  const children = Array.from({ length: processes }, () => {
    const child = spawn(process.execPath, ["--conditions=northbridge-source", CLAIM, ...paths], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
  });
  try {
    for (const { lines } of children) expect((await lines.next()).value).toBe("ready");
    for (const { child } of children) child.stdin.end();
    const had: (readonly boolean[])[] = [];
    for (const { lines } of children) had.push(JSON.parse((await lines.next()).value ?? "") as boolean[]);
    for (const at of paths) close(connectUnix(at)); // the one that listens is the one that is reached
    return had;
  } finally {
    for (const { child } of children) child.kill("SIGKILL");
  }
}

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "a socket at a path (needs Linux on x86-64)",
  () => {
    it("is had by one of the processes that find the same forsaken one at the same moment", async () => {
      const paths = Array.from({ length: 200 }, (_, i) => join(directory, `s${i}`));
      paths.forEach(leaveAt);
      const had = await claimAtOnce(3, paths);
      expect(paths.map((_, i) => had.filter((of) => of[i]).length)).toEqual(paths.map(() => 1));
    });

    it("takes the place of one of either type that a process left, and of no other file", async () => {
      leaveAt(path);
      ListeningSocket.forDatagrams(path).close();
      close(bindUnixDatagrams(path));
      const socket = ListeningSocket.at(path);
      close(connectUnix(path));
      const refusal = { code: "NB_HOST", message: `${path}: cannot listen: somebody listens there` };
      for (const listen of [ListeningSocket.at, ListeningSocket.forDatagrams] as const)
        expect(() => listen(path)).toThrow(expect.objectContaining(refusal));
      await expect(listenAt(createServer(), path)).rejects.toMatchObject(refusal);
      socket.close();
      expect(existsSync(path)).toBe(false);
      const datagrams = ListeningSocket.forDatagrams(path);
      expect(() => ListeningSocket.at(path)).toThrow(expect.objectContaining(refusal));
      datagrams.close();
      writeFileSync(path, "mine");
      expect(() => ListeningSocket.at(path)).toThrow(`${path}: cannot listen: there is a file of that name`);
      expect(lstatSync(path).size).toBe(4);
    });

    it("is not taken from a process that is too busy to answer", () => {
      const fd = listenUnix(path);
      const waiting: number[] = [];
      try {
        for (;;) waiting.push(probeUnix(path));
      } catch (error) {
        expect(error).toMatchObject({ errno: "EAGAIN" });
      }
      expect(() => ListeningSocket.at(path)).toThrow("somebody listens there");
      for (const one of [fd, ...waiting]) close(one);
    });

    it("is refused in the same words for either way to listen", async () => {
      const long = join(directory, "x".repeat(108));
      const nowhere = join(directory, "none", "s");
      for (const [at, reason] of [
        [long, `its path has ${long.length} bytes, and a Unix socket's may have 107`],
        [nowhere, `there is no directory ${join(directory, "none")}`],
        [join(path, "s"), `there is no directory ${path}`],
      ] as const) {
        writeFileSync(path, "");
        const message = `${at}: cannot listen: ${reason}`;
        expect(() => ListeningSocket.at(at)).toThrow(message);
        await expect(listenAt(createServer(), at)).rejects.toThrow(message);
      }
    });

    it("removes itself at the end, and nothing that has come to its place", async () => {
      const server = createServer();
      await listenAt(server, path);
      const socket = ListeningSocket.at(join(directory, "t"));
      for (const name of ["s", "t"]) renameSync(join(directory, name), join(directory, `${name}.old`));
      const others = ["s", "t"].map((name) => ListeningSocket.at(join(directory, name)));
      socket.close();
      await ended(server);
      for (const name of ["s", "t"]) close(connectUnix(join(directory, name)));
      for (const other of others) other.close();
      await listenAt(server, path);
      await ended(server);
      expect(existsSync(path)).toBe(false);
    });

    it("removes itself also from a directory that was the working directory at its beginning", () => {
      const source = `import { ListeningSocket } from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
        const socket = ListeningSocket.at("s");
        process.chdir("/");
        socket.close();`;
      const args = ["--conditions=northbridge-source", "--input-type=module", "-e", source];
      const { status, stderr } = spawnSync(process.execPath, args, { cwd: directory, encoding: "utf8" });
      expect([status, stderr, existsSync(path)]).toEqual([0, "", false]);
    });

    it("serves the clients of a server of Node's, and is the kernel's under its own name", async () => {
      const server = createServer((client) => client.end("hello"));
      await listenAt(server, path);
      const client = connect(path);
      const [bytes] = (await once(client, "data")) as [Uint8Array];
      expect(new TextDecoder().decode(bytes)).toBe("hello");
      client.destroy();
      await ended(server);
      const raw = ListeningSocket.at(path);
      expect(acceptUnix(raw.fd)).toBeUndefined();
      raw.close();
    });

    it("waits for who else looks, and leaves a forsaken one where the directory cannot be locked", () => {
      leaveAt(path);
      const lock = DirectoryLock.take(directory);
      expect(() => DirectoryLock.take(directory)).toThrow(expect.objectContaining({ errno: "EAGAIN" }));
      lock.release();
      DirectoryLock.wait(directory).release();
      const closed = join(directory, "closed");
      mkdirSync(closed);
      leaveAt(join(closed, "s"));
      chmodSync(closed, 0o333);
      const isRoot = process.getuid?.() === 0;
      const listen =
        (name: string): (() => void) =>
        () => {
          ListeningSocket.at(join(closed, name)).close();
        };
      listen("new")();
      if (isRoot) listen("s")();
      else expect(listen("s")).toThrow("its directory cannot be locked (permission denied)");
      chmodSync(closed, 0o700);
    });
  },
);
