import { readFileSync } from "node:fs";
import type { KvmVcpu } from "../vcpu/kvm-vcpu.ts";

const FIRST_LOOK_MS = 50;
const LONGEST_MS = 2000;

/**
 * Finds out that every vCPU halted for good. HLT waits in the kernel and ends no KVM_RUN, so a machine that executed
 * CLI and HLT would look like an idle one. Asks only vCPUs whose threads sleep, ever more rarely while they just idle.
 */
export class HaltWatch {
  readonly #vcpus: readonly KvmVcpu[];
  #timer: NodeJS.Timeout | undefined;
  #delayMs = FIRST_LOOK_MS;

  constructor(vcpus: readonly KvmVcpu[]) {
    this.#vcpus = vcpus;
  }

  /** A run began or ended. */
  pendingChanged(): void {
    if (this.#vcpus.some((vcpu) => vcpu.isPending)) {
      if (this.#timer !== undefined) return;
      this.#delayMs = FIRST_LOOK_MS;
      this.#arm();
    } else this.close();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer = setTimeout(() => {
      this.#look();
    }, this.#delayMs);
  }

  #look(): void {
    const pending = this.#vcpus.filter((vcpu) => vcpu.isPending);
    this.#arm();
    if (!pending.every((vcpu) => isAsleep(vcpu.tid))) {
      this.#delayMs = FIRST_LOOK_MS;
      return;
    }
    this.#delayMs = Math.min(2 * this.#delayMs, LONGEST_MS);
    // All are out of the guest at one moment: until this returns none can wake another.
    for (const vcpu of pending) vcpu.nudge();
    if (pending.every((vcpu) => vcpu.isDead())) for (const vcpu of pending) vcpu.declareDead();
  }
}

/** Whether the scheduler says that a thread of ours waits for something (proc(5), `stat`, field 3). */
function isAsleep(tid: number): boolean {
  try {
    const stat = readFileSync(`/proc/self/task/${tid}/stat`, "latin1");
    return stat.charAt(stat.lastIndexOf(")") + 2) === "S";
  } catch {
    return false;
  }
}
