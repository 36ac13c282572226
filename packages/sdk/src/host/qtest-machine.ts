import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { QmpClient } from "./qmp-client.ts";

type QemuProcess = ChildProcessByStdio<Writable, Readable, Readable>;

/** Bytes of one access, and what qtest calls it. */
const LETTERS = { 1: "b", 2: "w", 4: "l" } as const;
type Width = keyof typeof LETTERS;

/** Ports of configuration mechanism 1 (PCI 3.0 §3.2.2.3.2). */
const [CONFIG_ADDRESS, CONFIG_DATA] = [0xcf8, 0xcfc];

const PC = "qemu-system-x86_64";

/** What guest time does while nothing runs: it jumps to the next timer at once, stands still, or goes with the host's. */
export type QtestTime = "jumps" | "stands" | "goes";

const TIME_OPTIONS: Readonly<Record<QtestTime, readonly string[]>> = {
  jumps: ["-icount", "shift=0,sleep=off"],
  stands: ["-S"],
  goes: [],
};

/** A ROM whose reset vector is `cli; hlt`: the machine is there and nothing runs. */
function haltedRom(): Uint8Array {
  const rom = new Uint8Array(0x1_0000);
  rom.set([0xfa, 0xf4], 0xfff0);
  return rom;
}

/**
 * A QEMU without a guest, whose buses a test drives by the qtest protocol (QEMU, docs/devel/testing/qtest): one command
 * a line, one answer a line. With it a device is compared with QEMU's own, access by access.
 *
 * @example
 * ```ts
 * await using qemu = await QtestMachine.pc(["-device", "edu,addr=5"]);
 * expect(await qemu.configRead(5, 0, 4)).toBe(0x11e8_1234);
 * ```
 */
export class QtestMachine implements AsyncDisposable {
  readonly #child: QemuProcess;
  readonly #qmp: QmpClient;
  readonly #socket: Socket;
  readonly #directory: string;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly #ended: Promise<never>;
  #text = "";

  private constructor(child: QemuProcess, socket: Socket, directory: string, ended: Promise<never>) {
    this.#ended = ended;
    this.#child = child;
    this.#qmp = new QmpClient(child.stdin, child.stdout);
    this.#socket = socket;
    this.#directory = directory;
    // A QEMU that ended says so by its exit.
    socket.on("error", () => undefined);
    socket.setEncoding("latin1").on("data", (text: string) => {
      const lines = (this.#text + text).split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) if (!line.startsWith("IRQ")) this.#waiting.shift()?.(line);
    });
  }

  /** Whether this host has a QEMU to compare with. */
  static isInstalled(program: string = PC): boolean {
    return spawnSync(program, ["--version"]).status === 0;
  }

  /** A PC with 64 MiB and otherwise nothing but what `args` say. */
  static pc(args: readonly string[], time: QtestTime = "jumps"): Promise<QtestMachine> {
    return QtestMachine.start(PC, async (directory) => {
      const rom = join(directory, "halted.rom");
      await writeFile(rom, haltedRom());
      return ["-M", "pc", "-m", "64", "-nodefaults", "-bios", rom, ...TIME_OPTIONS[time], ...args];
    });
  }

  /** @param argsFor what else QEMU is told; the directory is gone with the machine */
  static async start(
    program: string,
    argsFor: (directory: string) => Promise<readonly string[]>,
  ): Promise<QtestMachine> {
    const directory = await mkdtemp(join(tmpdir(), "northbridge-qtest-"));
    const path = join(directory, "qtest.sock");
    const server = createServer();
    try {
      await new Promise<void>((resolve, reject) => void server.once("error", reject).listen(path, resolve));
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
    // Whoever could not be taken ends: its exit says more.
    server.on("error", () => undefined);
    const connected = new Promise<Socket>((resolve) => void server.once("connection", resolve));
    const qtest = ["-display", "none", "-qtest", `unix:${path}`, "-qtest-log", "none", "-qmp", "stdio"];
    const child = spawn(program, [...qtest, ...(await argsFor(directory))], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, QEMU_AUDIO_DRV: "none" },
    });
    let complaint = "";
    child.stderr
      .setEncoding("utf8")
      .on("data", (text: string) => (complaint = (complaint + text).slice(-2000)));
    const ended = new Promise<never>((_resolve, reject) => {
      child.once("close", (code) => reject(new Error(`${program} ended with ${code}: ${complaint.trim()}`)));
      child.once("error", reject);
    });
    ended.catch(() => undefined);
    let socket: Socket;
    try {
      socket = await Promise.race([connected, ended]);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    } finally {
      server.close();
    }
    return new QtestMachine(child, socket, directory, ended);
  }

  /** The object of that type in QEMU's tree that was made first. */
  async objectOf(type: string): Promise<string> {
    const path = "/machine/unattached";
    const all = await this.#qmp.execute("qom-list", { path }).catch(async (error: unknown) => {
      // Its own last words, and how it ended.
      if (this.#qmp.hasEnded) await this.#ended;
      throw error;
    });
    const numbers = (all as readonly { readonly name: string; readonly type: string }[])
      .filter((object) => object.type === `child<${type}>`)
      .map(({ name }) => Number(/\[(\d+)\]/.exec(name)?.[1]));
    if (numbers.length === 0) throw new Error(`qmp: expected an object of type ${type}, found none`);
    return `${path}/device[${Math.min(...numbers)}]`;
  }

  /** Puts a level on an input of an object that has no name of its own. */
  async setInput(object: string, input: number, level: boolean): Promise<void> {
    await this.#tell(`set_irq_in ${object} unnamed-gpio-in ${input} ${level ? 1 : 0}`);
  }

  async #tell(command: string): Promise<void> {
    await this.#ask(command);
  }

  async #ask(command: string): Promise<string> {
    const answer = new Promise<string>((resolve) => void this.#waiting.push(resolve));
    this.#socket.write(`${command}\n`);
    const [status, ...rest] = (await Promise.race([answer, this.#ended])).split(" ");
    if (status !== "OK") throw new Error(`qtest: ${command}: ${status} ${rest.join(" ")}`);
    return rest[0] ?? "";
  }

  read(address: number, width: Width): Promise<number> {
    return this.#ask(`read${LETTERS[width]} 0x${address.toString(16)}`).then(Number);
  }

  write(address: number, width: Width, value: number): Promise<void> {
    return this.#tell(`write${LETTERS[width]} 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  async bytes(address: number, length: number): Promise<Uint8Array> {
    return Buffer.from((await this.#ask(`read 0x${address.toString(16)} ${length}`)).slice(2), "hex");
  }

  async setBytes(address: number, bytes: Uint8Array): Promise<void> {
    const text = Buffer.from(bytes).toString("hex");
    await this.#tell(`write 0x${address.toString(16)} ${bytes.length} 0x${text}`);
  }

  portIn(port: number, width: Width): Promise<number> {
    return this.#ask(`in${LETTERS[width]} 0x${port.toString(16)}`).then(Number);
  }

  portOut(port: number, width: Width, value: number): Promise<void> {
    return this.#tell(`out${LETTERS[width]} 0x${port.toString(16)} 0x${value.toString(16)}`);
  }

  /** Configuration space of a device on bus 0 of a PC. */
  async configRead(device: number, offset: number, width: Width): Promise<number> {
    await this.#select(device, offset);
    return this.portIn(CONFIG_DATA + (offset & 3), width);
  }

  async configWrite(device: number, offset: number, width: Width, value: number): Promise<void> {
    await this.#select(device, offset);
    await this.portOut(CONFIG_DATA + (offset & 3), width, value);
  }

  #select(device: number, offset: number): Promise<void> {
    return this.portOut(CONFIG_ADDRESS, 4, 0x8000_0000 + (device << 11) + (offset & 0xfc));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    this.#child.kill("SIGKILL");
    await this.#ended.catch(() => undefined);
    await rm(this.#directory, { recursive: true, force: true });
  }
}
