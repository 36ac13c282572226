import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMachine, type Machine, type PluginRegistry } from "@northbridge/core";
import {
  type DeviceEntry,
  type DevicePluginSpec,
  type DeviceReference,
  HostEnds,
  type Hypervisor,
  type MachineConfig,
  type Token,
} from "@northbridge/core/contracts";
import { AgentConnection } from "./agent/agent-connection.ts";
import { AGENT_FD, agentProgram } from "./agent/agent-program.ts";
import { appendToInitramfs } from "./cpio.ts";
import { GuestConsole } from "./guest-console.ts";
import { LinuxGuest, within } from "./linux-guest.ts";

/** What to boot, and on what. */
export interface LinuxOptions {
  readonly hypervisor: Hypervisor;
  readonly registry: PluginRegistry;
  /** As `northbridge guest linux` prepares them: the initramfs says `Northbridge guest ready` and starts a shell. */
  readonly kernel: string;
  readonly initrd: string;
  /** Devices beside those of the machine type and the agent's console. */
  readonly devices?: readonly (DeviceEntry | DeviceReference)[];
  /** For another device in one's place: a recording one. */
  readonly adapt?: (spec: DevicePluginSpec<never, never>, id: string) => DevicePluginSpec<never, never>;
  /** @defaultValue `"pc-1"` */
  readonly machine?: string;
  /** @defaultValue 128 */
  readonly memoryMib?: number;
  /** @defaultValue 1 */
  readonly vcpus?: number;
  /** Added to the kernel's command line. */
  readonly cmdline?: string;
  /** @defaultValue 5 minutes: on a software CPU of a loaded host a boot takes one */
  readonly timeoutMs?: number;
}

const BOOT_TIMEOUT_MS = 300_000;
/** Id of the virtio console whose port the agent listens at. */
const AGENT_ID = "northbridge-agent";
const AGENT_PORT = "northbridge.agent";
const INITRD = "initrd.img";
const AGENT_PATH = "/sbin/northbridge-agent";
/** The port's name comes a little after the port. Without processes: one costs a software CPU a million instructions. */
const START_AGENT: string = `(n=; until [ "$n" = ${AGENT_PORT} ]; do usleep 20000; for p in /sys/class/virtio-ports/*; do read -r n <$p/name && [ "$n" = ${AGENT_PORT} ] && break; done; done; exec ${AGENT_PATH} ${AGENT_FD}<>/dev/\${p##*/}) 2>/dev/null &\n`;

/** A Linux that has booted once, as a snapshot: every {@link guest} starts right there. */
export class BootedLinux implements AsyncDisposable {
  readonly #options: LinuxOptions;
  readonly #directory: string;
  readonly #guests: Set<LinuxGuest> = new Set();

  constructor(options: LinuxOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
  }

  /** A guest of one's own, as it was right after boot. */
  async guest(): Promise<LinuxGuest> {
    const { machine, console, agent } = await assemble(this.#options, this.#directory);
    const guest = new LinuxGuest(machine, console, agent);
    this.#guests.add(guest);
    void machine.stopped.then(() => this.#guests.delete(guest));
    await machine.restore(join(this.#directory, "booted"));
    await machine.start();
    return guest;
  }

  /** Stops every guest and removes the snapshot. */
  async close(): Promise<void> {
    for (const guest of [...this.#guests]) await guest.stop();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Boots a stock Linux with devices of yours once and takes a snapshot; each test gets a guest restored from it.
 * Throws `NB_HOST` with the end of the console where the guest does not come up.
 *
 * @example
 * ```ts
 * const linux = await bootLinux({ hypervisor, registry, kernel, initrd, devices: [thermometer()] });
 * const guest = await linux.guest();
 * expect((await guest.exec("devmem 0xfe800000 32")).stdout).toBe("0x00000001\n");
 * ```
 */
export async function bootLinux(options: LinuxOptions): Promise<BootedLinux> {
  const directory = await mkdtemp(join(tmpdir(), "northbridge-linux-"));
  const linux = new BootedLinux(options, directory);
  try {
    const program = { kind: "file", path: AGENT_PATH, mode: 0o755, bytes: agentProgram() } as const;
    await writeFile(join(directory, INITRD), appendToInitramfs(await readFile(options.initrd), [program]));
    const { machine, console, agent } = await assemble(options, directory);
    try {
      await machine.start();
      const timeoutMs = options.timeoutMs ?? BOOT_TIMEOUT_MS;
      await within(timeoutMs, "booting Linux", machine, console, async (signal) => {
        await console.take(/Northbridge guest ready[^]*# (\x1b\[6n)?$/, signal);
        console.type(START_AGENT);
        await agent.hello;
        // The first command reads the shell from the initramfs; every guest finds it in memory.
        await agent.run("true", new Uint8Array());
      });
      await machine.save(join(directory, "booted"));
    } finally {
      await machine.stop();
    }
    return linux;
  } catch (error) {
    await linux.close();
    throw error;
  }
}

async function assemble(
  options: LinuxOptions,
  directory: string,
): Promise<{ machine: Machine; console: GuestConsole; agent: AgentConnection }> {
  const { hypervisor, registry, kernel, devices = [] } = options;
  const console = new GuestConsole();
  const agent = new AgentConnection();
  const config: MachineConfig = {
    machine: options.machine ?? "pc-1",
    memory: { mib: options.memoryMib ?? 128 },
    vcpus: options.vcpus ?? 1,
    boot: {
      kernel,
      initrd: join(directory, INITRD),
      cmdline: ["console=ttyS0 quiet cryptomgr.notests", options.cmdline].filter(Boolean).join(" "),
    },
    onReset: "stop",
    devices: [
      { plugin: "virtioConsole", id: AGENT_ID, ports: [{ name: AGENT_PORT, to: { kind: "ring" } }] },
      ...devices,
    ],
  };
  const adapt: LinuxOptions["adapt"] = (spec, id) =>
    id === AGENT_ID ? withAgent(spec, agent) : (options.adapt?.(spec, id) ?? spec);
  return { machine: await createMachine({ config, hypervisor, registry, console, adapt }), console, agent };
}

/** The same console, whose port (it opens that after the console itself) is the agent's connection. */
function withAgent(
  spec: DevicePluginSpec<never, never>,
  agent: AgentConnection,
): DevicePluginSpec<never, never> {
  return {
    ...spec,
    setup: (ctx, config) => {
      const inner = ctx.get(HostEnds);
      let opened = 0;
      const ends: HostEnds = {
        block: (end, use) => inner.block(end, use),
        char: (end) => (opened++ === 0 ? inner.char(end) : Promise.resolve(agent)),
        net: (end) => inner.net(end),
        directory: (end, use) => inner.directory(end, use),
        vsock: (end) => inner.vsock(end),
      };
      const get = <T>(token: Token<T>): T => ((token as symbol) === HostEnds ? (ends as T) : ctx.get(token));
      return spec.setup({ ...ctx, get }, config);
    },
  };
}
