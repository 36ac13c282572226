import { spawn } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it } from "vitest";

const isHere = process.platform === "linux" && process.arch === "x64";
const FULL = join(import.meta.dirname, "full-process.child.ts");

it.skipIf(!isHere)(
  "serves who came while there was no descriptor for the connection, once there is",
  async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-listener-"));
    const path = join(directory.path, "s");
    const listener = spawn(
      "sh",
      [
        "-c",
        'ulimit -n 64; exec "$@"',
        "sh",
        process.execPath,
        "--conditions=northbridge-source",
        FULL,
        path,
      ],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    const lines = createInterface({ input: listener.stdout })[Symbol.asyncIterator]();
    const ended = new Promise((resolve) => listener.once("exit", resolve));
    expect((await lines.next()).value).toBe("EMFILE");
    const socket = connect(path);
    await new Promise((resolve) => socket.once("connect", resolve));
    listener.stdin.write("room\n");
    expect((await lines.next()).value).toBe("served");
    expect(await ended).toBe(0);
    socket.destroy();
  },
);
