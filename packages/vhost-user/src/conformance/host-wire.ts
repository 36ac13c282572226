import {
  addSeals,
  close,
  connectUnix,
  createMemfd,
  EventFd,
  receiveMessage,
  Seal,
  sendMessage,
  setNonBlocking,
  SharedMapping,
  SystemCallError,
} from "@northbridge/linux";
import type { VhostUserSocket, VhostUserWire } from "@northbridge/sdk/conformance";

const LINGER_MS = 20;
const IDLE_MS = 1;
const LONGEST = 4096;

/** The way of `vhostUserConformance` to the back end that listens at a path. */
export function vhostUserWire(path: string): VhostUserWire {
  return hostWire(() => connectUnix(path));
}

/** @param connect a new connection to the back end: a descriptor, which is then this wire's */
export function hostWire(connect: () => number): VhostUserWire {
  return {
    connect: () => Promise.resolve().then(() => socketOf(connect())),
    shareMemory(length) {
      const fd = createMemfd("conformance", length);
      addSeals(fd, Seal.SHRINK | Seal.GROW);
      const mapping = new SharedMapping(fd, length, "conformance");
      let isOpen = true;
      return {
        fd,
        bytes: new Uint8Array(mapping.buffer, 0, length),
        close: () => {
          if (!isOpen) return;
          isOpen = false;
          mapping.unmap();
          close(fd);
        },
      };
    },
    createCounter() {
      const counter = new EventFd();
      let isOpen = true;
      return {
        fd: counter.fd,
        signal: () => {
          counter.signal();
        },
        drain: () => (isOpen ? Number(counter.drain()) : 0),
        close: () => {
          if (isOpen) counter.close();
          isOpen = false;
        },
      };
    },
    turn: () => sleep(IDLE_MS),
    linger: () => sleep(LINGER_MS),
    now: () => performance.now(),
  };
}

function socketOf(fd: number): VhostUserSocket {
  setNonBlocking(fd);
  let isOpen = true;
  return {
    send: (bytes, fds = []) => {
      try {
        return isOpen && sendMessage(fd, bytes, fds) === bytes.length;
      } catch (error) {
        if (error instanceof SystemCallError) return false;
        throw error;
      }
    },
    receive: () => {
      if (!isOpen) return "closed";
      try {
        const received = receiveMessage(fd, LONGEST);
        return received?.bytes.length === 0 ? "closed" : received;
      } catch (error) {
        if (error instanceof SystemCallError) return "closed";
        throw error;
      }
    },
    closeFd: (received) => {
      close(received);
    },
    close: () => {
      if (isOpen) close(fd);
      isOpen = false;
    },
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
