import type { Progress } from "@northbridge/storage-qcow2";
import type { CliHost } from "../host.ts";

/** Percentages as qemu-img prints them under `-p`, and the line's end. */
export class ProgressLine {
  readonly #host: CliHost;
  readonly #enabled: boolean;
  #last = -1;

  constructor(host: CliHost, enabled: boolean) {
    this.#host = host;
    this.#enabled = enabled;
    this.#print(0);
  }

  /** @param from,to the part of the whole, from 0 to 1, that one operation is */
  part(from = 0, to = 1): Progress {
    return (done, total) => this.#print(100 * (from + (to - from) * (total === 0 ? 1 : done / total)));
  }

  end(): void {
    if (!this.#enabled) return;
    this.#print(100);
    this.#host.stdout.write("\n");
  }

  #print(percent: number): void {
    if (!this.#enabled || (percent - this.#last < 1 && percent < 100)) return;
    this.#last = percent;
    this.#host.stdout.write(`    (${percent.toFixed(2)}/100%)\r`);
  }
}
