import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { close, open, OpenFlag, SharedMapping } from "@northbridge/linux";
import { FakeMemory } from "@northbridge/sdk/testing";

const RAM_BYTES = 16 << 20;
const BIOS_BYTES = 65_536;
/** cli; hlt; and if that ever ends, again: what the processor finds at its reset vector. */
const SLEEP = [0xfa, 0xf4, 0xeb, 0xfd];
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const SLOT = 5;
/** In the PCI hole; a BAR each 64 KiB. */
const WINDOW = 0xe000_0000;

/**
 * A QEMU under KVM whose processor sleeps, with one device on its PCI bus that the test drives itself: QEMU's `qtest`
 * protocol does accesses, and the guest's memory is a file that the test has mapped too. It needs no guest, so any KVM
 * will do.
 */
export class QtestMachine {
  readonly memory: FakeMemory;
  readonly #qemu: ChildProcess;
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;
  readonly #fd: number;
  readonly #mapping: SharedMapping;

  private constructor(qemu: ChildProcess, socket: Socket, ram: string) {
    this.#qemu = qemu;
    this.#socket = socket;
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]();
    this.#fd = open(ram, OpenFlag.O_RDWR);
    this.#mapping = new SharedMapping(this.#fd, RAM_BYTES, "RAM of QEMU");
    this.memory = new FakeMemory(new Uint8Array(this.#mapping.buffer, 0, RAM_BYTES));
  }

  /** @param args those of the device; `directory` gets the machine's files */
  static async start(directory: string, args: readonly string[]): Promise<QtestMachine> {
    const [bios, ram, qtest] = ["bios", "ram", "qtest"].map((name) => join(directory, name));
    const image = new Uint8Array(BIOS_BYTES);
    image.set(SLEEP, BIOS_BYTES - 16);
    writeFileSync(bios!, image);
    writeFileSync(ram!, new Uint8Array(RAM_BYTES));
    const backend = `memory-backend-file,id=memory,size=${RAM_BYTES},mem-path=${ram},share=on`;
    const qemu = spawn(
      "qemu-system-x86_64",
      [
        ...[
          "-M",
          "pc,memory-backend=memory",
          "-accel",
          "kvm",
          "-m",
          "16",
          "-object",
          backend,
          "-bios",
          bios!,
        ],
        ...["-nodefaults", "-display", "none", "-qtest", `unix:${qtest},server=on`, "-qtest-log", "none"],
        ...args,
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    for (;;) {
      const socket = connect(qtest!);
      const isThere = await once(socket, "connect").then(
        () => true,
        () => false,
      );
      if (isThere) return new QtestMachine(qemu, socket, ram!);
      if (qemu.exitCode !== null) throw new Error(`QEMU ended with ${qemu.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    this.#qemu.kill();
    if (this.#qemu.exitCode === null) await once(this.#qemu, "exit");
    this.#mapping.unmap();
    close(this.#fd);
  }

  async read(address: number, width: 1 | 2 | 4): Promise<number> {
    return this.#ask(`read${LETTER[width]} 0x${address.toString(16)}`);
  }

  async write(address: number, width: 1 | 2 | 4, value: number): Promise<void> {
    await this.#ask(`write${LETTER[width]} 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  async configRead(offset: number, width: 1 | 2 | 4): Promise<number> {
    await this.#select(offset);
    return this.#ask(`in${LETTER[width]} 0x${(CONFIG_DATA + (offset & 3)).toString(16)}`);
  }

  async configWrite(offset: number, width: 1 | 2 | 4, value: number): Promise<void> {
    await this.#select(offset);
    await this.#ask(
      `out${LETTER[width]} 0x${(CONFIG_DATA + (offset & 3)).toString(16)} 0x${value.toString(16)}`,
    );
  }

  /** Puts the device's memory BARs into the window and enables it. Returns where structures of virtio are, by type. */
  async enableVirtio(): Promise<ReadonlyMap<number, VirtioStructure>> {
    for (let bar = 0; bar < 6; bar++) {
      const low = await this.configRead(0x10 + 4 * bar, 4);
      if ((low & 1) === 0) await this.configWrite(0x10 + 4 * bar, 4, WINDOW + (bar << 16));
      if ((low & 6) === 4) await this.configWrite(0x10 + 4 * ++bar, 4, 0); // 64 bits
    }
    await this.configWrite(4, 2, 6); // memory, bus master
    const found = new Map<number, VirtioStructure>();
    for (let at = await this.configRead(0x34, 1); at !== 0; at = await this.configRead(at + 1, 1)) {
      if ((await this.configRead(at, 1)) !== 9) continue;
      const bar = await this.configRead(at + 4, 1);
      found.set(await this.configRead(at + 3, 1), {
        address: WINDOW + (bar << 16) + (await this.configRead(at + 8, 4)),
        multiplier: await this.configRead(at + 16, 4),
      });
    }
    return found;
  }

  async #select(offset: number): Promise<void> {
    const address = 0x8000_0000 + (SLOT << 11) + (offset & 0xfc);
    await this.#ask(`outl 0x${CONFIG_ADDRESS.toString(16)} 0x${address.toString(16)}`);
  }

  async #ask(line: string): Promise<number> {
    this.#socket.write(`${line}\n`);
    const { value } = (await this.#answers.next()) as { value: string };
    if (!value.startsWith("OK")) throw new Error(`${line}: ${value}`);
    return Number(value.split(" ")[1] ?? 0);
  }
}

/** Where a structure of §4.1.4 is; the multiplier is that of notifications. */
export interface VirtioStructure {
  readonly address: number;
  readonly multiplier: number;
}

/** Device number of the one device: `addr=` of its arguments. */
export const QTEST_SLOT: number = SLOT;

const LETTER = { 1: "b", 2: "w", 4: "l" } as const;
