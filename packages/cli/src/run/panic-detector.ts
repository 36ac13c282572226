import type { WatchedConsole } from "@northbridge/core";

/** How Linux begins to say that it panics: a line of the kernel's, behind time and context (`kernel/panic.c`). */
const FIRST = /^(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? )?Kernel panic - not syncing(?:: (.*))?$/;
/** The last that it says, with nothing behind it for good or until it resets. */
const LAST = /---\[ end Kernel panic|Rebooting in \d+ seconds/;
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
  let silence: NodeJS.Timeout | undefined;

  const see = (text: string): void => {
    const first = FIRST.exec(text);
    if (first !== null) {
      reason = first[1] ?? "Kernel panic";
      onBegin(reason);
    } else if (reason !== undefined && LAST.test(text)) {
      const given = reason;
      silence = setTimeout(() => {
        onEnd(given);
      }, SILENCE_MS).unref();
    } else if (reason !== undefined && ORDERLY.test(text)) {
      reason = undefined;
      onWithdraw();
    }
  };

  console.tap((byte) => {
    if (silence !== undefined && byte !== NEWLINE && byte !== RETURN) {
      clearTimeout(silence);
      silence = undefined;
    }
    if (byte === NEWLINE) {
      if (line.length > 0) see(line);
      line = "";
    } else if (byte !== RETURN && line.length < LONGEST_LINE) line += String.fromCharCode(byte);
  });
}
