import { RingBufferBackend, WatchedConsole } from "@northbridge/core";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { detectPanic } from "./panic-detector.ts";

// As stock Debian 12 kernels wrote them to a serial console.
const FIRST = "[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";
const TRACE = "[    1.240000] Call Trace:\r\n[    1.250000]  <TASK>\r\n[    1.260000]  panic+0x118/0x2ed";
const LAST =
  "[    1.300000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---";
const REASON = "VFS: Unable to mount root fs on unknown-block(0,0)";

let console: WatchedConsole;
let heard: string[];
const print = (...lines: string[]): void => {
  for (const byte of new TextEncoder().encode(lines.map((line) => `${line}\r\n`).join("")))
    console.write(byte);
};

beforeEach(() => {
  vi.useFakeTimers();
  console = new WatchedConsole(new RingBufferBackend());
  heard = [];
  detectPanic(console, {
    onBegin: (reason) => heard.push(`begins: ${reason}`),
    onEnd: (reason) => heard.push(`ends: ${reason}`),
    onWithdraw: () => heard.push("withdrawn"),
  });
});
afterEach(() => vi.useRealTimers());

it.each([
  ["with times", [FIRST, TRACE, LAST]],
  ["with times and contexts", [FIRST.replace("]", "][    T1]"), TRACE, LAST]],
  ["without times", [FIRST.slice(15), TRACE, LAST.slice(15)]],
  ["behind a prompt", [`debian login: ${FIRST}`, TRACE, LAST]],
  [
    "of before 5.1, which warn behind it",
    [FIRST, TRACE, LAST, "[    1.400000] ------------[ cut here ]------------"],
  ],
  ["and wait to reset", [FIRST, TRACE, "[    1.300000] Rebooting in 10 seconds.."]],
])("hears a kernel panic %s", (_how, lines) => {
  print("Run /init as init process", ...lines);
  expect(heard).toEqual([`begins: ${REASON}`]);
  vi.advanceTimersByTime(2000);
  expect(heard).toEqual([`begins: ${REASON}`, `ends: ${REASON}`]);
});

it("does not take a log for a panic that somebody prints and goes on", () => {
  print(FIRST, TRACE, LAST);
  vi.advanceTimersByTime(500);
  print("~ #");
  vi.advanceTimersByTime(60_000);
  expect(heard).toEqual([`begins: ${REASON}`]);
});

it("does not take words for a panic", () => {
  print("# grep panic old.log", `old.log:${FIRST}`, `old.log:${LAST}`, "it said so");
  vi.advanceTimersByTime(60_000);
  expect(heard).toEqual([`begins: ${REASON}`]);
});

it("takes it back where the guest ends in good order", () => {
  print(FIRST, "~ # reboot", "[   99.000000] reboot: Restarting system");
  expect(heard).toEqual([`begins: ${REASON}`, "withdrawn"]);
});
