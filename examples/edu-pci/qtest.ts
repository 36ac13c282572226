import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";

/** How long a QEMU may take for what it must do, on a loaded host. */
const PATIENCE_MS = 30_000;

/** Waits until the condition holds. Rejects where that takes too long: a loop without an end would hide why. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; !(await condition()); ) {
    if (performance.now() > end) throw new Error(`waited ${PATIENCE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

type QemuProcess = ChildProcessByStdio<Writable, Readable, null>;

/** Whether this host has a QEMU to compare with. */
export const hasQemu = (program = "qemu-system-x86_64"): boolean =>
  spawnSync(program, ["--version"]).status === 0;

/** A ROM whose reset vector is `cli; hlt`: the machine is there and nothing runs. */
function haltedRom(): Uint8Array {
  const rom = new Uint8Array(0x1_0000);
  rom.set([0xfa, 0xf4], 0xfff0);
  return rom;
}

/**
 * A QEMU without a guest, whose buses a test drives by the qtest protocol (QEMU, docs/devel/testing/qtest): one command
 * a line, one answer a line.
 */
export class QtestMachine implements AsyncDisposable {
  readonly #child: QemuProcess;
  readonly #socket: Socket;
  readonly #directory: string;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly #ended: Promise<never>;
  #text = "";

  private constructor(child: QemuProcess, socket: Socket, directory: string, ended: Promise<never>) {
    this.#ended = ended;
    this.#child = child;
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

  /** A PC without anything. Guest time jumps to the next timer at once, since nothing runs. */
  static pc(...args: readonly string[]): Promise<QtestMachine> {
    return QtestMachine.#pc("-icount", "shift=0,sleep=off", ...args);
  }

  /** The same, with guest time standing still. */
  static paused(...args: readonly string[]): Promise<QtestMachine> {
    return QtestMachine.#pc("-S", ...args);
  }

  static #pc(...args: readonly string[]): Promise<QtestMachine> {
    return QtestMachine.start("qemu-system-x86_64", async (directory) => {
      const rom = join(directory, "halted.rom");
      await writeFile(rom, haltedRom());
      return ["-M", "pc", "-m", "64", "-nodefaults", "-bios", rom, ...args];
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
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    const connected = new Promise<Socket>((resolve) => void server.once("connection", resolve));
    const qtest = ["-display", "none", "-qtest", `unix:${path}`, "-qtest-log", "none", "-qmp", "stdio"];
    const child = spawn(program, [...qtest, ...(await argsFor(directory))], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, QEMU_AUDIO_DRV: "none" },
    });
    const ended = new Promise<never>((_resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`${program} ended with ${code}`)));
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
    const { stdin, stdout } = this.#child;
    const answer = new Promise<readonly { readonly name: string; readonly type: string }[]>(
      (resolve, reject) => {
        let text = "";
        stdout.setEncoding("utf8").on("data", (more: string) => {
          text += more;
          for (const line of text.split("\n").slice(0, -1)) {
            const { return: found, error } = JSON.parse(line) as {
              readonly return?: unknown;
              readonly error?: { readonly desc: string };
            };
            if (Array.isArray(found)) resolve(found as never);
            if (error !== undefined) reject(new Error(`qmp: ${error.desc}`));
          }
        });
      },
    );
    const unattached = "/machine/unattached";
    stdin.write('{"execute":"qmp_capabilities"}\n');
    stdin.write(`{"execute":"qom-list","arguments":{"path":"${unattached}"}}\n`);
    const all = await Promise.race([answer, this.#ended]);
    const objects = all.filter((object) => object.type === `child<${type}>`);
    if (objects.length === 0) throw new Error(`qmp: expected an object of type ${type}, found none`);
    const numbers = objects.map(({ name }) => Number(/\[(\d+)\]/.exec(name)?.[1]));
    return `${unattached}/device[${Math.min(...numbers)}]`;
  }

  /** Puts a level on an input of an object that has no name of its own. */
  async setInput(object: string, input: number, level: boolean): Promise<void> {
    await this.#ask(`set_irq_in ${object} unnamed-gpio-in ${input} ${level ? 1 : 0}`);
  }

  async #ask(command: string): Promise<string> {
    const answer = new Promise<string>((resolve) => void this.#waiting.push(resolve));
    this.#socket.write(`${command}\n`);
    const [status, ...rest] = (await Promise.race([answer, this.#ended])).split(" ");
    if (status !== "OK") throw new Error(`qtest: ${command}: ${status} ${rest.join(" ")}`);
    return rest[0] ?? "";
  }

  async readMemory32(address: number): Promise<number> {
    return Number(await this.#ask(`readl 0x${address.toString(16)}`));
  }

  async writeMemory32(address: number, value: number): Promise<void> {
    await this.#ask(`writel 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  async bytes(address: number, length: number): Promise<Uint8Array> {
    return Buffer.from((await this.#ask(`read 0x${address.toString(16)} ${length}`)).slice(2), "hex");
  }

  async setBytes(address: number, bytes: Uint8Array): Promise<void> {
    await this.#ask(
      `write 0x${address.toString(16)} ${bytes.length} 0x${Buffer.from(bytes).toString("hex")}`,
    );
  }

  /** Configuration mechanism 1 (PCI 3.0 §3.2.2.3.2), bus 0. */
  async configRead32(device: number, offset: number): Promise<number> {
    await this.#ask(`outl 0xcf8 0x${(0x8000_0000 + device * 0x800 + (offset & 0xfc)).toString(16)}`);
    return Number(await this.#ask("inl 0xcfc"));
  }

  async configWrite32(device: number, offset: number, value: number): Promise<void> {
    await this.#ask(`outl 0xcf8 0x${(0x8000_0000 + device * 0x800 + (offset & 0xfc)).toString(16)}`);
    await this.#ask(`outl 0xcfc 0x${value.toString(16)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    this.#child.kill("SIGKILL");
    await rm(this.#directory, { recursive: true, force: true });
  }
}
