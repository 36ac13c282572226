import { closeSync, openSync, writeSync } from "node:fs";
import { fileErrorReason, type MachineOptions } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import { recordedPlugin } from "@northbridge/sdk/recording";

/** Which device to record, and where to. */
export interface RecordOptions {
  readonly device: string;
  readonly file: string;
}

/** Records one device of a machine that is about to be made. */
export class FileRecording implements Disposable {
  readonly #options: RecordOptions;
  readonly #fd: number;
  readonly #seen: string[] = [];

  /** Throws `NB_HOST` where the file cannot be written. */
  constructor(options: RecordOptions) {
    this.#options = options;
    try {
      this.#fd = openSync(options.file, "w");
    } catch (error) {
      throw new NorthbridgeError(
        "NB_HOST",
        `${options.file}: cannot write the trace: ${fileErrorReason(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  /** For `createMachine`. */
  readonly adapt: NonNullable<MachineOptions["adapt"]> = (spec, id) => {
    this.#seen.push(id);
    if (id !== this.#options.device) return spec;
    return recordedPlugin(spec, (bytes) => {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    });
  };

  /** Throws `NB_CONFIG` where the machine that was made has no such device. */
  expectDevice(): void {
    const { device } = this.#options;
    if (this.#seen.includes(device)) return;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `trace record: expected the id of a device of this machine, found ${device}; there are ${this.#seen.join(", ")}`,
    );
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
