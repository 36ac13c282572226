import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { hasKvm } from "./usable-kvm.ts";

const CHILD = fileURLToPath(new URL("ticking-machine.child.ts", import.meta.url));

/** A process that runs a machine, seen as the host's tools see it. */
class TickingProcess {
  readonly #child: ChildProcess;
  readonly directory: string;
  readonly #exit: Promise<unknown>;
  #ticks = 0;
  #error = "";
  #next = Promise.withResolvers<undefined>();

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "northbridge-ticks-"));
    this.#child = spawn(process.execPath, ["--conditions=northbridge-source", "--no-warnings", CHILD], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: this.directory },
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => (this.#error += chunk.toString()));
    this.#child.stdout?.on("data", () => {
      this.#ticks++;
      this.#next.resolve(undefined);
      this.#next = Promise.withResolvers();
    });
    this.#exit = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        this.#next.reject(new Error(`the machine's process ended with ${code ?? signal}: ${this.#error}`));
        this.#next.promise.catch(() => undefined);
        resolve(signal ?? code);
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get ticks(): number {
    return this.#ticks;
  }

  async ticked(times: number): Promise<void> {
    for (const until = this.#ticks + times; this.#ticks < until; ) await this.#next.promise;
  }

  /** Threads of this process by their names (proc(5)). */
  threads(): Map<string, number> {
    const tids = readdirSync(`/proc/${this.pid}/task`);
    return new Map(
      tids.map((tid) => [readFileSync(`/proc/${this.pid}/task/${tid}/comm`, "latin1").trim(), Number(tid)]),
    );
  }

  /** Fields of proc(5)'s `stat` behind the name, the state first. */
  stat(tid: number): string[] {
    const stat = readFileSync(`/proc/${this.pid}/task/${tid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  }

  async end(signal: NodeJS.Signals): Promise<unknown> {
    this.#child.kill(signal);
    const exit = await this.#exit;
    rmSync(this.directory, { recursive: true, force: true });
    return exit;
  }

  send(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

/** Whether the process has KVM, a VM or a vCPU open. */
function isHeld(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => /kvm/.test(readlinkSync(`/proc/${pid}/fd/${fd}`)));
  } catch {
    return false;
  }
}

const processes: TickingProcess[] = [];
afterEach(async () => {
  for (const each of processes.splice(0)) await each.end("SIGKILL");
});

function start(): TickingProcess {
  const started = new TickingProcess();
  processes.push(started);
  return started;
}

const lacks = ["taskset", "renice"].filter((tool) => spawnSync(tool, ["--version"]).error !== undefined);
if (lacks.length > 0) console.log(`tests of threads' priorities skip: no ${lacks.join(" and no ")}`);

describe.skipIf(!hasKvm)("a machine under KVM is threads of the host", () => {
  it("stops with SIGSTOP and goes on with SIGCONT", { timeout: 0 }, async () => {
    const machine = start();
    await machine.ticked(2);
    const threads = machine.threads();
    expect([...threads.keys()]).toEqual(expect.arrayContaining(["vcpu 0 ticking", "vcpu 1 ticking"]));
    for (let round = 0; round < 3; round++) {
      machine.send("SIGSTOP");
      const tid = threads.get("vcpu 0 ticking")!;
      while (machine.stat(tid)[0] !== "T") await new Promise((resolve) => setTimeout(resolve, 1));
      // What is on its way in the pipe arrives; then there is nothing more.
      let before = -1;
      while (before !== machine.ticks) {
        before = machine.ticks;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      machine.send("SIGCONT");
      await machine.ticked(2);
    }
  });

  it.skipIf(lacks.length > 0)("takes priorities and processors by thread", { timeout: 0 }, async () => {
    const machine = start();
    await machine.ticked(1);
    const tid = machine.threads().get("vcpu 1 ticking")!;
    const before = machine.stat(tid)[16]; // as the tests were started
    execFileSync("renice", ["-n", "7", "-p", String(tid)], { stdio: "ignore" });
    execFileSync("taskset", ["-cp", "0", String(tid)], { stdio: "ignore" });
    expect(machine.stat(tid)[16]).toBe("7");
    const other = machine.threads().get("vcpu 0 ticking")!;
    expect(machine.stat(other)[16]).toBe(before);
    expect(readFileSync(`/proc/${machine.pid}/task/${tid}/status`, "latin1")).toMatch(
      /^Cpus_allowed_list:\t0$/m,
    );
    await machine.ticked(2);
  });

  it("leaves nothing behind when it is killed, whenever that is", { timeout: 0 }, async () => {
    const shared = (): string[] => readdirSync("/dev/shm").filter((name) => name.includes("northbridge"));
    const before = shared();
    // While it starts, while it makes the machine, while the guest runs.
    for (const delayMs of [0, 30, 100, 200, undefined]) {
      const machine = start();
      if (delayMs === undefined) await machine.ticked(1);
      else await new Promise((resolve) => setTimeout(resolve, delayMs));
      machine.send("SIGKILL");
      while (isHeld(machine.pid)) await new Promise((resolve) => setTimeout(resolve, 1));
      const files = readdirSync(machine.directory);
      expect(await machine.end("SIGKILL")).toBe("SIGKILL");
      expect(files).toEqual([]);
    }
    expect(shared()).toEqual(before);
    const next = start();
    await next.ticked(1);
  });
});
