import { TextSearch, type WatchedConsole } from "@northbridge/core";

/** What Linux writes first and last when it panics (`kernel/panic.c`). */
const FIRST = "Kernel panic - not syncing";
const LAST = "---[ end Kernel panic";
const LONGEST_REASON = 200;

/**
 * Sees Linux panic on the console. `onPanic` is called when the kernel has said all of it, or a second after it began.
 */
export function detectPanic(console: WatchedConsole, onPanic: (reason: string) => void): void {
  console.watch(FIRST, () => {
    let reason = "";
    let isReasonComplete = false;
    let isReported = false;
    const last = new TextSearch(LAST);
    const report = (): void => {
      if (isReported) return;
      isReported = true;
      untap();
      clearTimeout(timer);
      onPanic(reason.replace(/^[:\s]+/, "").trim() || FIRST);
    };
    const timer = setTimeout(report, 1000);
    let isLastLine = false;
    const untap = console.tap((byte) => {
      const char = String.fromCharCode(byte);
      if (char === "\n") isReasonComplete = true;
      else if (!isReasonComplete && reason.length < LONGEST_REASON) reason += char;
      isLastLine ||= last.see(byte);
      if (isLastLine && char === "\n") report();
    });
  });
}
