import type { BlockBackend } from "@northbridge/sdk";
import { VirtioBench, type VirtioBenchOptions } from "@northbridge/sdk/testing";
import { type ScsiTarget, VirtioScsi, type VirtioScsiDeps } from "@northbridge/devices-virtio";

/** A disk in memory whose operations a test can hold back or fail. */
export class TestDisk implements BlockBackend {
  bytes: Uint8Array;
  size: number;
  readonly blockSize: number = 512;
  readonly readOnly: boolean;
  /** What was done, in order. */
  readonly done: string[] = [];
  /** The error of every operation from now on. */
  error: Error | undefined;
  #held: (() => void)[] | undefined;

  constructor(size: number = 1 << 20, readOnly: boolean = false) {
    this.bytes = new Uint8Array(size);
    this.size = size;
    this.readOnly = readOnly;
  }

  /** Operations wait from now on. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const go of held) go();
  }

  read(offset: number, into: readonly Uint8Array[]): Promise<void> {
    return this.#turn().then(() => {
      let at = offset;
      for (const part of into) {
        part.set(this.bytes.subarray(at, at + part.length));
        at += part.length;
      }
    });
  }

  write(offset: number, from: readonly Uint8Array[]): Promise<void> {
    return this.#turn().then(() => {
      let at = offset;
      for (const part of from) {
        this.bytes.set(part, at);
        at += part.length;
      }
    });
  }

  async flush(): Promise<void> {
    await this.#turn();
    this.done.push("flush");
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#turn();
    this.done.push(`discard ${offset} ${length}`);
    this.bytes.fill(0, offset, offset + length);
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#turn();
    this.done.push(`zero ${offset} ${length} ${mayUnmap}`);
    this.bytes.fill(0, offset, offset + length);
  }

  resize(bytes: number): Promise<void> {
    const grown = new Uint8Array(bytes);
    grown.set(this.bytes.subarray(0, bytes));
    this.bytes = grown;
    this.size = bytes;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #turn(): Promise<void> {
    const held = this.#held;
    if (held !== undefined) await new Promise<void>((go) => held.push(go));
    if (this.error !== undefined) throw this.error;
  }
}

/** How a command ended. */
export interface ScsiEnd {
  readonly response: number;
  readonly status: number;
  /** Key, code and qualifier. */
  readonly sense: readonly number[] | undefined;
  readonly residual: number;
  readonly data: readonly number[];
}

export interface ScsiCommand {
  readonly cdb: readonly number[];
  /** @defaultValue unit 0 of target 0 */
  readonly lun?: readonly number[];
  readonly id?: number;
  readonly out?: Uint8Array;
  /** Room for data. */
  readonly room?: number;
}

const IN_AT = 108;

/** A started SCSI host and what a driver does with it. */
export class ScsiDriver {
  readonly device: VirtioScsi;
  readonly bench: VirtioBench;

  constructor(
    targets: readonly ScsiTarget[],
    options: Omit<VirtioScsiDeps, "targets"> & VirtioBenchOptions = {},
  ) {
    this.device = new VirtioScsi({ targets, ...options });
    this.bench = new VirtioBench(this.device, options).start();
  }

  /** Sends a command; returns what it says so far, when it has ended. */
  submit({ cdb, lun = [1, 0], id = 0, out, room = 0 }: ScsiCommand): () => ScsiEnd | undefined {
    const { bench } = this;
    const header = new Uint8Array(51);
    header.set(lun);
    new DataView(header.buffer).setUint32(8, id, true);
    header.set(cdb, 19);
    const answer = bench.allocBytes(new Uint8Array(IN_AT + room).fill(0xee));
    const queue = bench.queue(2);
    const own = queue.add(
      [
        { gpa: bench.allocBytes(header), length: header.length },
        ...(out === undefined ? [] : [{ gpa: bench.allocBytes(out), length: out.length }]),
      ],
      [{ gpa: answer, length: IN_AT }, ...(room === 0 ? [] : [{ gpa: answer + IN_AT, length: room }])],
    );
    bench.endpoint.notify(2);
    return () => {
      for (const { id: ended, written } of queue.collect()) this.#ended.set(ended, written);
      const written = own === undefined ? undefined : this.#ended.get(own);
      if (own === undefined || written === undefined) return undefined;
      this.#ended.delete(own);
      const bytes = bench.bytes(answer, IN_AT + room);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const senseLength = view.getUint32(0, true);
      return {
        response: bytes[11] ?? -1,
        status: bytes[10] ?? -1,
        sense: senseLength === 0 ? undefined : [bytes[14] ?? -1, bytes[24] ?? -1, bytes[25] ?? -1],
        residual: view.getUint32(4, true),
        data: [...bytes.subarray(IN_AT, written)],
      };
    };
  }

  /** Sends a command and waits for its end. */
  async run(command: ScsiCommand): Promise<ScsiEnd> {
    const ended = this.submit(command);
    for (let i = 0; i < 100; i++) {
      const end = ended();
      if (end !== undefined) return end;
      await Promise.resolve();
    }
    throw new Error(`${command.cdb.join(" ")} did not end`);
  }

  /** Sends a task management function; its response once there is one. */
  manage(subtype: number, id = 0, lun: readonly number[] = [1, 0]): () => number {
    const { bench } = this;
    const request = new Uint8Array(24);
    request.set(lun, 8);
    const view = new DataView(request.buffer);
    view.setUint32(4, subtype, true);
    view.setUint32(16, id, true);
    const answer = bench.allocBytes(Uint8Array.of(0xee));
    bench.queue(0).add([{ gpa: bench.allocBytes(request), length: 24 }], [{ gpa: answer, length: 1 }]);
    bench.endpoint.notify(0);
    return () => {
      bench.queue(0).collect();
      return bench.bytes(answer, 1)[0] ?? -1;
    };
  }

  readonly #ended = new Map<number, number>();
}

/** A disk whose power-on unit attention has been heard. */
export async function startedDisk(
  backend: TestDisk = new TestDisk(),
  options: ConstructorParameters<typeof ScsiDriver>[1] = {},
): Promise<{ readonly driver: ScsiDriver; readonly backend: TestDisk }> {
  const driver = new ScsiDriver([{ type: "disk", backend, serial: "SER1" }], options);
  const { sense } = await driver.run({ cdb: [0] });
  if (String(sense) !== "6,41,0") throw new Error(`SPC-4 §5.14: sense ${String(sense)}`);
  return { driver, backend };
}

/** How a command ends that is done, with all data but `residual` bytes. */
export const good = (data: readonly number[] = [], residual = 0): ScsiEnd => ({
  response: 0,
  status: 0,
  sense: undefined,
  residual,
  data: [...data],
});

/** Sense of an illegal request (SPC-4 §4.5.6): key, code and qualifier. */
export const INVALID_OPERATION: readonly number[] = [5, 0x20, 0];
export const OUT_OF_RANGE: readonly number[] = [5, 0x21, 0];
export const INVALID_FIELD: readonly number[] = [5, 0x24, 0];

export const be16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
export const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)];
export const be64 = (value: number): number[] => [...be32(Math.floor(value / 2 ** 32)), ...be32(value >>> 0)];

/** Bytes that differ from their neighbours. */
export const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
