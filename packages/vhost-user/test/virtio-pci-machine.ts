import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { close, open, OpenFlag, SharedMapping } from "@northbridge/linux";
import { QtestMachine } from "@northbridge/sdk/host";
import { FakeMemory } from "@northbridge/sdk/testing";

const RAM_BYTES = 64 << 20;
/** In the PCI hole; a BAR each 64 KiB. */
const WINDOW = 0xe000_0000;

/** Device number of the one device: `addr=` of its arguments. */
export const SLOT = 5;

/** Where a structure of virtio 1.3 §4.1.4 is; the multiplier is that of notifications. */
export interface VirtioStructure {
  readonly address: number;
  readonly multiplier: number;
}

/**
 * A QEMU under KVM whose processor sleeps, with one virtio device on its PCI bus that the test drives itself: the guest's
 * memory is a file that the test has mapped too. It needs no guest, so any KVM will do.
 */
export class VirtioPciMachine {
  readonly qemu: QtestMachine;
  readonly memory: FakeMemory;
  readonly #fd: number;
  readonly #mapping: SharedMapping;

  private constructor(qemu: QtestMachine, ram: string) {
    this.qemu = qemu;
    this.#fd = open(ram, OpenFlag.O_RDWR);
    this.#mapping = new SharedMapping(this.#fd, RAM_BYTES, "RAM of QEMU");
    this.memory = new FakeMemory(new Uint8Array(this.#mapping.buffer, 0, RAM_BYTES));
  }

  /** @param args those of the device; `directory` gets the machine's memory */
  static async start(directory: string, args: readonly string[]): Promise<VirtioPciMachine> {
    const ram = join(directory, "ram");
    writeFileSync(ram, new Uint8Array(RAM_BYTES));
    const backend = `memory-backend-file,id=memory,size=${RAM_BYTES},mem-path=${ram},share=on`;
    const memory = ["-object", backend, "-machine", "memory-backend=memory"];
    return new VirtioPciMachine(await QtestMachine.pc(["-accel", "kvm", ...memory, ...args], "goes"), ram);
  }

  async close(): Promise<void> {
    await this.qemu[Symbol.asyncDispose]();
    this.#mapping.unmap();
    close(this.#fd);
  }

  /** Puts the device's memory BARs into the window and enables it. Returns where structures of virtio are, by type. */
  async enable(): Promise<ReadonlyMap<number, VirtioStructure>> {
    const read = (offset: number, width: 1 | 2 | 4): Promise<number> =>
      this.qemu.configRead(SLOT, offset, width);
    const write = (offset: number, width: 1 | 2 | 4, value: number): Promise<void> =>
      this.qemu.configWrite(SLOT, offset, width, value);
    for (let bar = 0; bar < 6; bar++) {
      const low = await read(0x10 + 4 * bar, 4);
      if ((low & 1) === 0) await write(0x10 + 4 * bar, 4, WINDOW + (bar << 16));
      if ((low & 6) === 4) await write(0x10 + 4 * ++bar, 4, 0); // 64 bits
    }
    await write(4, 2, 6); // memory, bus master
    const found = new Map<number, VirtioStructure>();
    for (let at = await read(0x34, 1); at !== 0; at = await read(at + 1, 1)) {
      if ((await read(at, 1)) !== 9) continue;
      const bar = await read(at + 4, 1);
      found.set(await read(at + 3, 1), {
        address: WINDOW + (bar << 16) + (await read(at + 8, 4)),
        multiplier: await read(at + 16, 4),
      });
    }
    return found;
  }
}
