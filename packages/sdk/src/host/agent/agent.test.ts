import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentConnection, type CommandOutcome } from "./agent-connection.ts";
import { AGENT_FD, agentProgram } from "./agent-program.ts";
import { encodeRequest, FrameReader } from "./protocol.ts";

/** The agent is a Linux program for x86-64: it runs on such a host as it does in a guest. */
describe.skipIf(process.platform !== "linux" || process.arch !== "x64")(
  "the agent, on this host's kernel (needs Linux on x86-64)",
  () => {
    let directory = "";
    let child: ChildProcess;
    let agent: AgentConnection;

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "northbridge-agent-"));
      const path = join(directory, "agent");
      await writeFile(path, agentProgram(), { mode: 0o755 });
      child = spawn(path, [], { stdio: ["ignore", "inherit", "inherit", "pipe"] });
      const port = child.stdio[AGENT_FD] as Duplex;
      agent = new AgentConnection();
      port.on("data", (bytes: Uint8Array) => {
        for (const byte of bytes) agent.write(byte);
        agent.flush();
      });
      agent.connect((bytes) => {
        port.write(bytes.slice());
        return bytes.length;
      });
      await agent.hello;
    });
    afterAll(async () => {
      child.kill("SIGKILL");
      await rm(directory, { recursive: true });
    });

    const run = async (
      command: string,
      input: string | Uint8Array = "",
    ): Promise<readonly [string, string, number]> => {
      const { stdout, stderr, status } = await agent.run(
        command,
        typeof input === "string" ? Buffer.from(input) : input,
      );
      return [Buffer.from(stdout).toString(), Buffer.from(stderr).toString(), status];
    };

    it("keeps what a command writes to each of its outputs apart, and says how it ended", async () => {
      expect(await run("echo out; echo err >&2; exit 7")).toEqual(["out\n", "err\n", 7]);
      expect(await run("kill -TERM $$")).toEqual(["", "", 128 + 15]);
      expect(await run("/nowhere/at/all")).toEqual(["", expect.stringContaining("not found"), 127]);
      expect(await run("true")).toEqual(["", "", 0]);
      expect(await run('echo "$PATH"; pwd >/dev/null')).toEqual([expect.stringContaining("/sbin:"), "", 0]);
    });

    it("gives a command its input and closes it", async () => {
      expect(await run("cat; cat", "typed")).toEqual(["typed", "", 0]);
      expect(await run("cat")).toEqual(["", "", 0]);
      expect(await run("head -c 1; ls -l /proc/self/fd | grep -c socket", "xyz")).toEqual(["x0\n", "", 1]);
    });

    it("moves bytes both ways as they are", async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.oneof(
            fc.uint8Array({ maxLength: 300 }),
            fc
              .integer({ min: 60_000, max: 300_000 })
              .map((length) => Uint8Array.from({ length }, (_, i) => (i * 7) >>> 3)),
          ),
          async (bytes) => {
            const path = join(directory, "pushed");
            const outcome: CommandOutcome = await agent.run(`cat > '${path}' && cat '${path}'`, bytes);
            expect(Buffer.compare(outcome.stdout, bytes)).toBe(0);
            expect(Buffer.compare(await readFile(path), bytes)).toBe(0);
          },
        ),
        { numRuns: 15 },
      );
    });

    it("takes both outputs at once, longer than a pipe holds", async () => {
      const [out, err, status] = await run("seq 100000; seq 100000 >&2");
      expect([out.length, err.length, status]).toEqual([588_895, 588_895, 0]);
    });
  },
);

describe("the agent's protocol", () => {
  it("finds frames in whatever pieces they come", () => {
    const stream = Uint8Array.of(1, 2, 0, 0, 0, 65, 66, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 7, 0, 0);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 5 }), (cuts) => {
        const reader = new FrameReader();
        const found: unknown[] = [];
        const bounds = [0, ...cuts.toSorted((a, b) => a - b), stream.length];
        for (let i = 1; i < bounds.length; i++) {
          reader.push(stream.slice(bounds[i - 1], bounds[i]));
          for (let frame = reader.take(); frame; frame = reader.take())
            found.push([frame.kind, ...frame.bytes]);
        }
        expect(found).toEqual([[1, 65, 66], [0], [3, 0, 7, 0, 0]]);
      }),
    );
  });

  it("refuses what no shell would take", () => {
    expect(() => encodeRequest("x".repeat(131_072), new Uint8Array())).toThrow(/up to 131071 bytes/);
    expect(() => encodeRequest("a\0b", new Uint8Array())).toThrow(/none of them zero/);
  });
});
