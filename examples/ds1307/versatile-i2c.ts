import type { QtestMachine } from "@northbridge/sdk/host";

/** Two pins of a Versatile/PB: bits that are written to SET go up, to CLR down; SET reads what the wires carry. */
const [SET, CLR] = [0x1000_2000, 0x1000_2004];
const [SCL, SDA] = [1, 2];

/** Drives an I2C bus of QEMU's wire by wire (NXP UM10204 §3.1). */
export class VersatileI2c {
  readonly #qemu: QtestMachine;

  constructor(qemu: QtestMachine) {
    this.#qemu = qemu;
  }

  /** Writes bytes, then reads `count` in the same transfer. Returns what was read. */
  async transfer(address: number, bytes: readonly number[], count: number): Promise<readonly number[]> {
    const read: number[] = [];
    if (bytes.length > 0 || count === 0) {
      await this.#start();
      for (const byte of [address << 1, ...bytes]) await this.#send(byte);
    }
    if (count > 0) {
      await this.#start();
      await this.#send((address << 1) | 1);
      while (read.length < count) read.push(await this.#receive(read.length + 1 < count));
    }
    await this.#wires(SDA, false);
    await this.#wires(SCL, true);
    await this.#wires(SDA, true);
    return read;
  }

  #wires(wires: number, level: boolean): Promise<void> {
    return this.#qemu.write(level ? SET : CLR, 4, wires);
  }

  async #start(): Promise<void> {
    await this.#wires(SDA, true);
    await this.#wires(SCL, true);
    await this.#wires(SDA, false);
    await this.#wires(SCL, false);
  }

  async #bit(level: boolean): Promise<boolean> {
    await this.#wires(SDA, level);
    await this.#wires(SCL, true);
    const carried = ((await this.#qemu.read(SET, 4)) & SDA) !== 0;
    await this.#wires(SCL, false);
    return carried;
  }

  async #send(byte: number): Promise<void> {
    for (let bit = 7; bit >= 0; bit--) await this.#bit(((byte >> bit) & 1) === 1);
    if (await this.#bit(true)) throw new Error(`nobody acknowledges 0x${byte.toString(16)}`);
  }

  async #receive(isMore: boolean): Promise<number> {
    let byte = 0;
    for (let bit = 0; bit < 8; bit++) byte = (byte << 1) | ((await this.#bit(true)) ? 1 : 0);
    await this.#bit(!isMore);
    return byte;
  }
}
