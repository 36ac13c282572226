import { access, constants, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileErrorReason, type Machine } from "@northbridge/core";
import { NorthbridgeError, type StopReason } from "@northbridge/core/contracts";

interface Milestone {
  /** Since this process started. */
  readonly wallMs: number;
  /** User and system time of this process. */
  readonly cpuMs: number;
  readonly instructions: number;
}

const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** Finds out before a long run, not after it. Throws `NB_HOST`. */
export async function expectWritable(file: string): Promise<void> {
  try {
    await access(dirname(resolve(file)), constants.W_OK);
  } catch (error) {
    throw cannotWrite(file, error);
  }
}

const cannotWrite = (file: string, cause: unknown): NorthbridgeError =>
  new NorthbridgeError("NB_HOST", `${file}: cannot write the statistics: ${fileErrorReason(cause)}`, {
    cause,
  });

/** When what happened in one run, and what it cost. */
export class RunStatistics {
  readonly #milestones = new Map<string, Milestone>();
  readonly #machine: Machine;
  readonly #backend: string;

  constructor(machine: Machine, backend: string) {
    this.#machine = machine;
    this.#backend = backend;
  }

  /** Only the first time counts. */
  reach(name: string): void {
    if (this.#milestones.has(name)) return;
    const instructions = this.#machine.stats().backend["instructions"] ?? 0;
    this.#milestones.set(name, { wallMs: performance.now(), cpuMs: cpuMs(), instructions });
  }

  has(name: string): boolean {
    return this.#milestones.has(name);
  }

  /** Throws `NB_HOST` where the file cannot be written. */
  async writeTo(file: string, reason: StopReason, exitCode: number): Promise<void> {
    const { backend: counters, bus, devices, hostEnds, resets } = this.#machine.stats();
    const { instructions = 0, ...exits } = counters;
    const data = {
      version: 1,
      machine: this.#machine.config.name,
      backend: this.#backend,
      reason,
      exitCode,
      wallMs: performance.now(),
      cpuMs: cpuMs(),
      maxRssBytes: process.resourceUsage().maxRSS * 1024,
      guestTimeMs: this.#machine.clock.nowNs() / 1e6,
      milestones: Object.fromEntries(this.#milestones),
      instructions,
      exits,
      bus,
      devices,
      hostEnds,
      resets,
    };
    try {
      await writeFile(file, `${JSON.stringify(data, undefined, 2)}\n`);
    } catch (error) {
      throw cannotWrite(file, error);
    }
  }
}
