import type { Machine, WatchedConsole } from "@northbridge/core";
import type { VcpuState } from "@northbridge/core/contracts";

/** How Linux says that it panics (`kernel/panic.c`); a prompt may stand before it. */
const FIRST = /(?<!end )Kernel panic - not syncing(?:: (.*))?$/;
/** What a kernel says that ends in good order, and a panicking one never does (`kernel/reboot.c`). */
const ORDERLY = /reboot: (?:Restarting|Power|System halted)/;
const LONGEST_LINE = 512;
const NEWLINE = 0x0a;
const RETURN = 0x0d;

/** Guest time, in ns. So long the console is silent before its processors are looked at; between two looks. */
const SILENCE_NS = 1e9;
const PERIOD_NS = 1e8;
/** So many looks in a row find a kernel that waits for nothing. */
const LOOKS = 5;
/** So many times a guest is looked at in vain before it is believed to go on. */
const TRIES = 3;

/** Interrupts are on (Intel SDM 3A §2.3). */
const RFLAGS_IF = 1n << 9n;

/** Who hears of a panic. */
export interface PanicListener {
  /** The kernel has said why. */
  readonly onBegin: (reason: string) => void;
  /** It has said all that it will. */
  readonly onEnd: (reason: string) => void;
  /** The guest goes on: somebody only printed what a panic looks like. */
  readonly onWithdraw: () => void;
}

/**
 * Sees Linux panic on the console, where a guest has no pvpanic. Anybody may print the same lines there, from an old log
 * for one. What nobody else does: behind them the console is silent for a second of guest time, and whenever one looks
 * then, a processor turns in the kernel on the page tables that it had at the first line, the others have stopped with
 * interrupts off, and no program runs (`panic()`). That holds for kernels of any age, with and without an end line, and for
 * those that wait for their reset. A kernel that saves a crashed one's memory (kexec(8)) has page tables of its own.
 */
export function detectPanic(
  console: WatchedConsole,
  machine: Pick<Machine, "clock" | "look">,
  { onBegin, onEnd, onWithdraw }: PanicListener,
): void {
  const { clock } = machine;
  let line = "";
  let reason: string | undefined;
  /** Bytes written since a panic was said to begin. */
  let written = 0;
  let looks = 0;
  let tries = 0;
  /** CR3 of every processor at the first line; `undefined` where nobody could look. */
  let pageTables: readonly bigint[] | undefined;

  const timer = clock.createTimer(() => void look());
  const waitFor = (ns: number): void => {
    timer.arm(clock.nowNs() + ns);
  };
  const waitForSilence = (): void => {
    looks = 0;
    waitFor(SILENCE_NS);
  };
  const withdraw = (): void => {
    reason = undefined;
    timer.disarm();
    onWithdraw();
  };
  const look = async (): Promise<void> => {
    const before = written;
    const states = await machine.look().catch(() => undefined);
    if (reason === undefined || before !== written) return; // the guest has said more meanwhile
    // Of a machine that pauses, there is nothing to see until it goes on.
    if (states === undefined) waitForSilence();
    else if (isPanicking(states, pageTables)) {
      looks += 1;
      if (looks === LOOKS) onEnd(reason);
      else waitFor(PERIOD_NS);
    } else {
      tries += 1;
      if (tries === TRIES) withdraw();
      else waitForSilence();
    }
  };
  const notePageTables = async (): Promise<void> => {
    pageTables = undefined;
    const states = await machine.look().catch(() => undefined);
    pageTables = states?.map(({ sregs }) => sregs.cr3);
  };
  const see = (text: string): void => {
    const first = FIRST.exec(text);
    if (first !== null) {
      reason = first[1] ?? "Kernel panic";
      tries = 0;
      waitForSilence();
      void notePageTables();
      onBegin(reason);
    } else if (reason !== undefined && ORDERLY.test(text)) withdraw();
  };

  console.tap((byte) => {
    if (reason !== undefined) {
      written += 1;
      waitForSilence();
    }
    if (byte === NEWLINE) {
      if (line.length > 0) see(line);
      line = "";
    } else if (byte !== RETURN && line.length < LONGEST_LINE) line += String.fromCharCode(byte);
  });
}

/** Whether some processor executes the same kernel on, and nobody else will ever do anything. */
const isPanicking = (states: readonly VcpuState[], pageTables: readonly bigint[] | undefined): boolean =>
  states.some(
    ({ mpState, sregs }, at) => mpState === "runnable" && sregs.cr3 === (pageTables?.[at] ?? sregs.cr3),
  ) && states.every(isKernelOrStopped);

function isKernelOrStopped({ mpState, regs, sregs }: VcpuState): boolean {
  if (mpState === "runnable") return (sregs.cs.selector & 3) === 0;
  return mpState !== "halted" || (regs.rflags & RFLAGS_IF) === 0n;
}
