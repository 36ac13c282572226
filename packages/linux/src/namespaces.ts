import { close, open, OpenFlag } from "./files.ts";
import { libc } from "./libc.ts";
import { check } from "./system-call-error.ts";

const CLONE_NEWNET = 0x4000_0000;

/**
 * Moves this thread into a network namespace (setns(2)): the sockets and interfaces that it opens from now on, and the
 * programs that it starts, are there. Needs CAP_SYS_ADMIN. Throws `SystemCallError`.
 * @param path such as `/run/netns/lab`, or `/proc/PID/ns/net`
 * @returns the way back
 */
export function enterNetworkNamespace(path: string): () => void {
  const home = open("/proc/thread-self/ns/net", OpenFlag.O_RDONLY);
  const enter = (fd: number, what: string): void => {
    try {
      check(libc().setns(fd, CLONE_NEWNET), "setns", what);
    } finally {
      close(fd);
    }
  };
  try {
    enter(open(path, OpenFlag.O_RDONLY), `network namespace ${path}`);
  } catch (error) {
    close(home);
    throw error;
  }
  return () => {
    enter(home, "the network namespace from before");
  };
}
