import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, errnoName, SystemCallError } from "./system-call-error.ts";

/** `struct sigaction` of glibc on x86-64: handler, 128 bytes of mask, flags. */
const SIGACTION_BYTES = 152;
const PR_SET_NAME = 15;
const THREAD_NAME_BYTES = 16;

/** The kernel's number of the calling thread. */
export function gettid(): number {
  return libc().gettid();
}

/**
 * Makes a signal interrupt system calls of the thread that gets it (`EINTR`), and do nothing else. Its handler is a
 * function of libc that takes no notice: one of JavaScript could not run there.
 */
export function interruptOn(signal: number): void {
  const action = new RootedBuffer(SIGACTION_BYTES);
  action.view.setBigUint64(0, libc().symbol("getppid"), true);
  check(
    action.lend((address) => libc().sigaction(signal, address, 0n)),
    "sigaction",
    `signal ${signal}`,
  );
}

/** Sends a signal to one thread of this process (tgkill(2)). Returns whether there is such a thread. */
export function signalThread(tid: number, signal: number): boolean {
  if (libc().tgkill(process.pid, tid, signal) === 0) return true;
  if (errnoName() === "ESRCH") return false;
  throw new SystemCallError("tgkill", errnoName(), `thread ${tid}`);
}

/** Names the calling thread as `top -H` shows it; 15 bytes are kept. */
export function nameThread(name: string): void {
  const text = new RootedBuffer(THREAD_NAME_BYTES);
  text.bytes.set(new TextEncoder().encode(name).subarray(0, THREAD_NAME_BYTES - 1));
  check(
    text.lend((address) => libc().prctl(PR_SET_NAME, address)),
    "prctl",
    `thread name ${name}`,
  );
}
