import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtempDisposable, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { setUp, tearDown } from "./host-network.ts";
import { type Change, type FileChange, planNetwork, type ProgramChange } from "./network-plan.ts";
import { listNetworks } from "./network-record.ts";

const quiet = (): void => undefined;

/** A directory of records, and a host of which files are all there is. */
async function host(): Promise<
  AsyncDisposable & {
    readonly state: string;
    readonly forwarding: FileChange;
    read(file: string): Promise<string>;
    write(file: string, content: string): Promise<void>;
    /** Something that is there, or not, and may be kept from going by `busy`. */
    thing(name: string): ProgramChange;
    readonly things: () => Promise<readonly string[]>;
  }
> {
  const directory = await mkdtempDisposable(join(tmpdir(), "northbridge-net-"));
  const at = (file: string): string => join(directory.path, file);
  await mkdir(at("things"));
  await writeFile(at("ip_forward"), "0\n");
  return {
    state: at("state"),
    forwarding: { what: "forwarding", file: at("ip_forward"), content: "1" },
    read: async (file) => (await readFile(at(file), "utf8")).trim(),
    write: (file, content) => writeFile(at(file), content),
    thing: (name) => ({
      what: name,
      run: ["mkdir", at(`things/${name}`)],
      undo: ["rmdir", at(`things/${name}`)],
      exists: ["test", "-d", at(`things/${name}`)],
    }),
    things: () => readdir(at("things")),
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

const fails: Change = { what: "what fails", run: ["false"], undo: undefined };

describe("networks of the host", () => {
  it("share what they turn on: the last to go turns it off, and only if it was off", async () => {
    await using it = await host();
    await setUp("a", [it.forwarding, it.thing("x")], it.state, quiet);
    await setUp("b", [it.forwarding], it.state, quiet);
    await tearDown("a", it.state);
    expect(await it.read("ip_forward")).toBe("1");
    await tearDown("b", it.state);
    expect(await it.read("ip_forward")).toBe("0");
    await it.write("ip_forward", "1");
    await setUp("c", [it.forwarding], it.state, quiet);
    await tearDown("c", it.state);
    expect(await it.read("ip_forward")).toBe("1");
    expect(await readdir(it.state)).toEqual([]);
  });

  it("leave alone what somebody has changed since", async () => {
    await using it = await host();
    await setUp("a", [it.forwarding], it.state, quiet);
    await it.write("ip_forward", "2");
    await tearDown("a", it.state);
    expect(await it.read("ip_forward")).toBe("2");
  });

  it("stay on record until all of them is gone, and go though somebody was faster", async () => {
    await using it = await host();
    await setUp("a", [it.thing("x"), it.thing("y"), it.thing("z")], it.state, quiet);
    await it.write("things/y/busy", "");
    await expect(tearDown("a", it.state)).rejects.toThrow(
      /^a: could not take back: rmdir .*y.*: `northbridge net teardown a` again once that is settled$/,
    );
    expect(await it.things()).toEqual(["y"]);
    const [left] = await listNetworks(it.state);
    expect(left).toMatchObject({ name: "a", made: [{ what: "y" }] });
    await rm(it.thing("y").run[1] ?? "", { recursive: true });
    await tearDown("a", it.state);
    expect(await readdir(it.state)).toEqual([]);
  });

  it("say what a setup that failed could not take back, and keep it on record", async () => {
    await using it = await host();
    const stays: Change = { what: "stays", run: ["true"], undo: ["false"] };
    await expect(setUp("a", [it.thing("x"), stays, fails], it.state, quiet)).rejects.toThrow(
      /^false .*; could not take back: .*: `northbridge net teardown a`$/s,
    );
    const [left] = await listNetworks(it.state);
    expect(left).toMatchObject({ made: [{ what: "stays" }] });
    expect(await it.things()).toEqual([]);
  });

  it("never take what was there before for theirs", async () => {
    await using it = await host();
    await mkdir(it.thing("x").run[1] ?? "");
    await expect(setUp("a", [it.thing("x")], it.state, quiet)).rejects.toThrow(/^x: is there already/);
    expect(await it.things()).toEqual(["x"]);
    expect(await readdir(it.state)).toEqual([]);
  });

  it("are on record before they are made, by one of two at a time", async () => {
    await using it = await host();
    const path = join(it.state, "a.json");
    const sees: Change = { what: "sees itself", run: ["grep", "-q", "sees itself", path], undo: undefined };
    const twice = [setUp("a", [sees], it.state, quiet), setUp("a", [sees], it.state, quiet)];
    const results = await Promise.allSettled(twice);
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await writeFile(join(it.state, "torn.json"), '{"version":');
    expect(await listNetworks(it.state)).toMatchObject([
      { name: "a" },
      { name: "torn", problem: expect.stringMatching(/^torn: expected the record of a `net setup`/) },
    ]);
  });
});

describe("the DHCP server of a host network", () => {
  it("is ended where the pid file is still its own, and its files go either way", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-net-"));
    const request = { name: "lab", subnet: "10.77.0.0/24", taps: 0, user: undefined, nat: false, dhcp: true };
    const dhcp = planNetwork(request, directory.path).at(-1) as ProgramChange;
    const [program = "", ...args] = dhcp.undo ?? [];
    const pidArgument = dhcp.run.find((one) => one.startsWith("--pid-file=")) ?? "";
    const pidFile = pidArgument.slice("--pid-file=".length);
    const leases = join(directory.path, "lab.leases");
    for (const [own, signal] of [
      [false, null],
      [true, "SIGTERM"],
    ] as const) {
      const script = 'process.stdout.write("up"); process.stdin.on("end", () => process.exit()).resume()';
      const daemon = spawn(process.execPath, ["-e", script, "--", own ? pidArgument : "another"]);
      await once(daemon.stdout, "data");
      await writeFile(pidFile, `${daemon.pid}\n`);
      await writeFile(leases, "1 aa:bb 10.77.0.2 * *\n");
      const ended = once(daemon, "exit");
      const [code] = (await once(spawn(program, args), "exit")) as [number];
      daemon.stdin.end();
      expect([code, (await ended)[1]]).toEqual([0, signal]);
      expect([existsSync(pidFile), existsSync(leases)]).toEqual([false, false]);
    }
  });
});
