import { RealtimeClock, RingBufferBackend, WatchedConsole } from "@northbridge/core";
import type { VcpuState } from "@northbridge/core/contracts";
import { beforeEach, expect, it } from "vitest";
import { detectPanic } from "./panic-detector.ts";

// As stock Debian 12 kernels wrote them to a serial console.
const FIRST = "[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)";
const TRACE = "[    1.240000] Call Trace:\r\n[    1.250000]  <TASK>\r\n[    1.260000]  panic+0x118/0x2ed";
const LAST =
  "[    1.300000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---";
const REASON = "VFS: Unable to mount root fs on unknown-block(0,0)";

const processor = (
  mpState: VcpuState["mpState"],
  privilege: number,
  interrupts: boolean,
  cr3 = 0x1000n,
): VcpuState =>
  ({
    mpState,
    regs: { rflags: interrupts ? 0x202n : 2n },
    sregs: { cs: { selector: privilege === 0 ? 0x10 : 0x33 }, cr3 },
  }) as VcpuState;
const IN_KERNEL = processor("runnable", 0, true);
const IN_ANOTHER_KERNEL = processor("runnable", 0, false, 0x2000n);
const IN_PROGRAM = processor("runnable", 3, true);
const IDLE = processor("halted", 0, true);
const STOPPED = processor("halted", 0, false);
const NEVER_STARTED = processor("waitForSipi", 0, false);

let nowNs: number;
let clock: RealtimeClock;
let console: WatchedConsole;
let heard: string[];
/** What the processors do; `undefined`: they do not run. */
let processors: readonly VcpuState[] | undefined;
const print = (...lines: string[]): void => {
  for (const byte of new TextEncoder().encode(lines.map((line) => `${line}\r\n`).join("")))
    console.write(byte);
};
/** Lets guest time go on, in steps that are shorter than anything that is waited for. */
const pass = async (seconds: number): Promise<void> => {
  for (let step = 0; step < seconds * 20; step++) {
    nowNs += 5e7;
    clock.runDue();
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  }
};

beforeEach(() => {
  nowNs = 0;
  clock = new RealtimeClock({ nowNs: () => nowNs, wallMs: () => 0 });
  clock.resume();
  console = new WatchedConsole(new RingBufferBackend());
  heard = [];
  processors = [IN_KERNEL];
  const look = (): Promise<readonly VcpuState[]> =>
    processors === undefined ? Promise.reject(new Error("it has paused")) : Promise.resolve(processors);
  detectPanic(
    console,
    { clock, look },
    {
      onBegin: (reason) => heard.push(`begins: ${reason}`),
      onEnd: (reason) => heard.push(`ends: ${reason}`),
      onWithdraw: () => heard.push("withdrawn"),
    },
  );
});

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
  ["that say nothing at its end", [FIRST.slice(15), "CPU: 0 PID: 1 Comm: swapper/0", "Call Trace:"]],
])("hears a kernel panic %s", async (_how, lines) => {
  print("Run /init as init process", ...lines);
  expect(heard).toEqual([`begins: ${REASON}`]);
  await pass(2);
  expect(heard).toEqual([`begins: ${REASON}`, `ends: ${REASON}`]);
});

it("hears it once the other processors have stopped, those that never ran among them", async () => {
  processors = [IN_PROGRAM, IN_KERNEL, NEVER_STARTED];
  print(FIRST, TRACE, LAST);
  await pass(1.2);
  processors = [STOPPED, IN_KERNEL, NEVER_STARTED];
  await pass(3);
  expect(heard).toEqual([`begins: ${REASON}`, `ends: ${REASON}`]);
});

it.each<[string, readonly VcpuState[]]>([
  ["waits, as cat old-panic.log; sleep 60 does", [IDLE]],
  ["waits on another processor", [IN_KERNEL, IDLE]],
  ["computes", [IN_PROGRAM]],
  ["computes on another processor", [IN_KERNEL, IN_PROGRAM]],
])("takes it back where a guest that has printed a log %s", async (_what, states) => {
  processors = states;
  print(FIRST, TRACE, LAST);
  await pass(60);
  expect(heard).toEqual([`begins: ${REASON}`, "withdrawn"]);
  processors = [IN_KERNEL];
  await pass(60);
  expect(heard).toHaveLength(2);
});

it("takes no kernel for the one that panicked that saves its memory, silently", async () => {
  processors = [IN_KERNEL, IDLE];
  print("Run /init as init process", FIRST); // where kexec(8) has loaded one, it says no more
  await pass(0.1);
  processors = [IN_ANOTHER_KERNEL, STOPPED];
  await pass(60);
  expect(heard).toEqual([`begins: ${REASON}`, "withdrawn"]);
});

it("hears it where nobody could look at its first line", async () => {
  processors = undefined;
  print(FIRST, TRACE, LAST);
  await pass(0.1);
  processors = [IN_KERNEL];
  await pass(2);
  expect(heard).toEqual([`begins: ${REASON}`, `ends: ${REASON}`]);
});

it("looks at no guest that goes on writing", async () => {
  processors = [IDLE];
  print(FIRST, TRACE, LAST);
  for (let times = 0; times < 20; times++) {
    print("still here");
    await pass(0.5);
  }
  expect(heard).toEqual([`begins: ${REASON}`]);
});

it("takes no pause of the machine for silence", async () => {
  print(FIRST, TRACE, LAST);
  await pass(0.5);
  clock.pause();
  processors = undefined;
  await pass(60);
  clock.resume();
  expect(heard).toEqual([`begins: ${REASON}`]);
  await pass(0.8); // it pauses once more, in the middle of a look
  processors = [IN_KERNEL];
  await pass(0.4);
  expect(heard).toHaveLength(1);
  await pass(2);
  expect(heard).toEqual([`begins: ${REASON}`, `ends: ${REASON}`]);
});

it("takes it back where the guest ends in good order", async () => {
  print(FIRST, "~ # reboot", "[   99.000000] reboot: Restarting system");
  await pass(60);
  expect(heard).toEqual([`begins: ${REASON}`, "withdrawn"]);
});
