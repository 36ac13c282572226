import { fstatSync, statSync } from "node:fs";
import { close, ioctl } from "./files.ts";
import { interfaceAddress } from "./interfaces.ts";
import { enterNetworkNamespace } from "./namespaces.ts";
import { SystemCallError } from "./system-call-error.ts";
import { adoptTapQueue, tapAddress, TunRequest } from "./tap.ts";

const STAY = (): void => undefined;

/**
 * Moves this thread to where the interface of a tap's queue is, which another process may have opened in a network
 * namespace of its own. Gives the way back; `undefined` where the interface is elsewhere and this process may not go
 * there. The kernel names the namespace (TUNGETDEVNETNS, Linux 5.2) to who has CAP_NET_ADMIN in it; for others it is
 * this thread's if that has an interface of the same name and hardware address.
 */
export function enterNamespaceOfTap(fd: number): (() => void) | undefined {
  let namespace: number;
  try {
    namespace = ioctl(fd, TunRequest.TUNGETDEVNETNS, 0, "TUNGETDEVNETNS");
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return looksOwn(fd) ? STAY : undefined;
  }
  try {
    if (fstatSync(namespace).ino === statSync("/proc/thread-self/ns/net").ino) return STAY;
    return enterNetworkNamespace(`/proc/self/fd/${namespace}`);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return undefined;
  } finally {
    close(namespace);
  }
}

function looksOwn(fd: number): boolean {
  try {
    return interfaceAddress(adoptTapQueue(fd).name) === tapAddress(fd);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return false; // there is none of that name
  }
}
