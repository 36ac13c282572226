import { execFile, execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { promisify } from "node:util";

const runFile = promisify(execFile);
let count = 0;
/** iproute2: of the host, and in no package. */
const IP = "ip";

/** Why this host has no network namespaces for tests, `undefined` where it has. */
export function namespaceObstacle(...programs: readonly string[]): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "needs Linux on x86-64";
  if (process.getuid?.() !== 0) return "needs root, to make network namespaces";
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
  } catch {
    return "needs /dev/net/tun";
  }
  for (const program of [IP, ...programs]) {
    try {
      execFileSync("which", [program], { stdio: "ignore" });
    } catch {
      return `needs ${program}`;
    }
  }
  try {
    execFileSync(IP, ["netns", "add", probe], { stdio: "ignore" });
    execFileSync(IP, ["netns", "del", probe], { stdio: "ignore" });
  } catch {
    return "may not make network namespaces";
  }
  return undefined;
}

const probe = `nbp${process.pid}`;

/** A network namespace of one test: its kernel is a guest that we did not write. */
export class NetworkNamespace implements AsyncDisposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  static async make(): Promise<NetworkNamespace> {
    count += 1;
    const name = `nb${process.pid}-${count}`;
    await runFile(IP, ["netns", "add", name]);
    const namespace = new NetworkNamespace(name);
    await namespace.run("ip", "link", "set", "lo", "up");
    // As a kernel has it by default, whatever this host chose for itself.
    const options = ["tcp_sack", "tcp_timestamps", "tcp_window_scaling"];
    await namespace.run("sh", "-c", options.map((key) => `echo 1 > /proc/sys/net/ipv4/${key}`).join("; "));
    return namespace;
  }

  /** Runs a program in it and gives what it wrote. Rejects where it fails. */
  async run(program: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await runFile(IP, ["netns", "exec", this.name, program, ...args], {
      maxBuffer: 1 << 26,
    });
    return stdout;
  }

  /** Runs a script of this process's own runtime in it. */
  script(source: string, ...args: readonly string[]): Promise<string> {
    return this.run(process.execPath, "--input-type=module", "-e", source, ...args);
  }

  /** Moves an interface of ours into it and brings it up there as `eth0`. */
  async take(device: string): Promise<void> {
    await runFile(IP, ["link", "set", device, "netns", this.name]);
    // No second of waiting whether an address is free, and none before routers are asked.
    for (const [key, value] of [
      ["accept_dad", 0],
      ["router_solicitation_delay", 0],
    ] as const) {
      await this.run("sh", "-c", `echo ${value} > /proc/sys/net/ipv6/conf/${device}/${key}`);
    }
    await this.run("ip", "link", "set", device, "name", "eth0");
    await this.run("ip", "link", "set", "eth0", "up");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runFile(IP, ["netns", "del", this.name]);
  }
}
