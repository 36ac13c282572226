import type { WatchedConsole } from "@northbridge/core";

/** How Linux says that it panics (`kernel/panic.c`); a prompt may stand before it. */
const FIRST = /(?<!end )Kernel panic - not syncing(?:: (.*))?$/;
/** The last that it says before it stands still or resets. */
const LAST = /---\[ end Kernel panic|Rebooting in \d+ seconds/;
/** Kernels before 5.1 warn behind that; with times, their lines can be told from others'. */
const KERNEL_LINE = /^\[ *\d+\.\d+\]/;
/** What a kernel says that ends in good order, and a panicking one never does (`kernel/reboot.c`). */
const ORDERLY = /reboot: (?:Restarting|Power|System halted)/;
const LONGEST_LINE = 512;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
/** So long nobody writes behind a last line that the kernel wrote; a shell or a log would. */
const SILENCE_MS = 1000;

/** Who hears of a panic. */
export interface PanicListener {
  /** The kernel has said why. */
  readonly onBegin: (reason: string) => void;
  /** It has said all of it, and nothing more follows. */
  readonly onEnd: (reason: string) => void;
  /** The guest goes on: somebody only printed what a panic looks like. */
  readonly onWithdraw: () => void;
}

/**
 * Sees Linux panic on the console, where a guest has no pvpanic. Anybody may print the same lines there, from an old log for
 * one: what counts is a console that is silent behind them.
 */
export function detectPanic(console: WatchedConsole, { onBegin, onEnd, onWithdraw }: PanicListener): void {
  let line = "";
  let reason: string | undefined;
  /** Runs while nothing but the kernel has written behind its last line. */
  let silence: NodeJS.Timeout | undefined;

  const goOn = (): void => {
    clearTimeout(silence);
    silence = undefined;
  };
  const endIfSilent = (): void => {
    silence = undefined;
    if (reason !== undefined && (line === "" || KERNEL_LINE.test(line))) onEnd(reason);
  };
  const see = (text: string): void => {
    const first = FIRST.exec(text);
    if (first !== null) {
      reason = first[1] ?? "Kernel panic";
      onBegin(reason);
    } else if (reason !== undefined && LAST.test(text)) {
      goOn();
      silence = setTimeout(endIfSilent, SILENCE_MS).unref();
    } else if (reason !== undefined && ORDERLY.test(text)) {
      reason = undefined;
      goOn();
      onWithdraw();
    } else if (!KERNEL_LINE.test(text)) goOn();
  };

  console.tap((byte) => {
    silence?.refresh();
    if (byte === NEWLINE) {
      if (line.length > 0) see(line);
      line = "";
    } else if (byte !== RETURN && line.length < LONGEST_LINE) line += String.fromCharCode(byte);
  });
}
