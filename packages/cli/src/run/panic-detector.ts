import { TextSearch, type WatchedConsole } from "@northbridge/core";

/** What Linux writes first and last when it panics (`kernel/panic.c`). */
const FIRST = "Kernel panic - not syncing";
const LAST = "---[ end Kernel panic";
const LONGEST_REASON = 200;

/** Who hears of a panic. */
export interface PanicListener {
  /** The kernel has said why. */
  readonly onBegin: (reason: string) => void;
  /** It has said all of it, or a second has passed since it began. */
  readonly onEnd: (reason: string) => void;
}

/** Sees Linux panic on the console. */
export function detectPanic(console: WatchedConsole, { onBegin, onEnd }: PanicListener): void {
  console.watch(FIRST, () => {
    let reason = "";
    let isReasonComplete = false;
    let isReported = false;
    const last = new TextSearch(LAST);
    const given = (): string => reason.replace(/^[:\s]+/, "").trim() || FIRST;
    const report = (): void => {
      if (isReported) return;
      isReported = true;
      untap();
      clearTimeout(timer);
      onEnd(given());
    };
    const timer = setTimeout(report, 1000).unref();
    let isLastLine = false;
    const untap = console.tap((byte) => {
      const char = String.fromCharCode(byte);
      if (char === "\n") {
        if (!isReasonComplete) onBegin(given());
        isReasonComplete = true;
      } else if (!isReasonComplete && reason.length < LONGEST_REASON) reason += char;
      isLastLine ||= last.see(byte);
      if (isLastLine && char === "\n") report();
    });
  });
}
