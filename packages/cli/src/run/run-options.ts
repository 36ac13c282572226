import type { RecordOptions } from "../trace/record-to-file.ts";
import type { SaveOn } from "./save-on.ts";

/** The command line of `northbridge run`, parsed. */
export interface RunOptions {
  /** File of the machine config. */
  readonly machine?: string;
  readonly backend?: "auto" | "kvm" | "soft";
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly set: readonly string[];
  readonly clock?: "realtime" | "virtual";
  /** Seconds of the host. */
  readonly timeout?: number;
  readonly expect: readonly string[];
  readonly stats?: string;
  readonly monitor?: string;
  readonly saveOn?: SaveOn;
  readonly restore?: string;
  readonly record?: RecordOptions;
  /** Replace devices whose modules change. */
  readonly watch?: boolean;
}
