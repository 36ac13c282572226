import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { fileErrorReason, type MachineOptions } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import { recordedPlugin } from "@northbridge/sdk/recording";

/** Which device to record, and where to. */
export interface RecordOptions {
  readonly device: string;
  readonly file: string;
}

/** Records one device of a machine that is about to be made. What the file held stays until the device is set up. */
export class FileRecording implements Disposable {
  readonly #options: RecordOptions;
  readonly #fd: number;
  /** It was not there before. */
  readonly #isNew: boolean;
  #isBegun = false;
  readonly #seen: string[] = [];

  /** Throws `NB_HOST` where the file cannot be written. */
  constructor(options: RecordOptions) {
    this.#options = options;
    try {
      const made = openNew(options.file);
      this.#isNew = made !== undefined;
      this.#fd = made ?? openSync(options.file, "a");
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
      this.#begin();
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

  /** What was there before goes. */
  #begin(): void {
    if (!this.#isBegun && fstatSync(this.#fd).isFile()) ftruncateSync(this.#fd);
    this.#isBegun = true;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
    if (!this.#isNew || this.#isBegun) return;
    try {
      rmSync(this.#options.file, { force: true });
    } catch {
      // Its directory has gone, or is somebody else's: no reason to hide why nothing was recorded.
    }
  }
}

/** `undefined` where it is there already. */
function openNew(file: string): number | undefined {
  try {
    return openSync(file, "ax");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return undefined;
    throw error;
  }
}
