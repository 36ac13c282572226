import { FdWatch } from "./events.ts";
import { close, read, write } from "./files.ts";
import { interfaceIndex } from "./interfaces.ts";
import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, SystemCallError } from "./system-call-error.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const NETLINK_ROUTE = 0;
const SOCKADDR_NL_BYTES = 12;
const GROUPS_AT = 8;
const RTMGRP_LINK = 1;

/** `struct nlmsghdr`, then `struct ifinfomsg` (linux/netlink.h, linux/rtnetlink.h). */
const Message = { LENGTH: 0, TYPE: 4, FLAGS: 6, INDEX: 20, INTERFACE_FLAGS: 24, BYTES: 32 } as const;
const NLM_F_REQUEST = 1;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
/** linux/if.h: what the administrator wants, and whether the driver has a carrier. */
const IFF_UP = 1;
const IFF_LOWER_UP = 0x1_0000;
/** More than the kernel writes about one interface. */
const MOST_BYTES = 32_768;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
/** `struct epoll_event`, packed on x86-64 (sys/epoll.h); EPOLLERR needs not be asked for. */
const EPOLL_EVENT_BYTES = 12;
const EPOLLIN = 1;

/** A descriptor that is readable whenever `fd` is, or has an error (epoll(7)). */
function epollOf(fd: number): number {
  const epoll = check(libc().epoll_create1(EPOLL_CLOEXEC), "epoll_create1", "events");
  const event = new RootedBuffer(EPOLL_EVENT_BYTES);
  event.view.setUint32(0, EPOLLIN, true);
  try {
    const added = event.lend((at) => libc().epoll_ctl(epoll, EPOLL_CTL_ADD, fd, at));
    check(added, "epoll_ctl", "rtnetlink");
  } catch (error) {
    close(epoll);
    throw error;
  }
  return epoll;
}

/** `up`: frames pass. `gone`: not in this network namespace any more. */
export type InterfaceState = "up" | "down" | "gone";

/** Watches an interface of this thread's network namespace, over rtnetlink(7). Needs no rights, keeps no process alive. */
export class InterfaceWatch {
  readonly #fd: number;
  /** Readable when the socket has something to tell or an error: the event loop gives up a descriptor with an error. */
  readonly #events: number;
  readonly #index: number;
  readonly #changed: (state: InterfaceState) => void;
  readonly #watch: FdWatch;
  readonly #messages = new RootedBuffer(MOST_BYTES);
  #state: InterfaceState = "down";
  #isClosed = false;

  /** @param changed called in the event loop; `state` says how it is at first. Throws `SystemCallError`. */
  constructor(name: string, changed: (state: InterfaceState) => void) {
    this.#changed = changed;
    this.#index = interfaceIndex(name);
    const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#fd = check(libc().socket(AF_NETLINK, type, NETLINK_ROUTE), "socket", "rtnetlink");
    try {
      const address = new RootedBuffer(SOCKADDR_NL_BYTES);
      address.view.setUint16(0, AF_NETLINK, true);
      address.view.setUint32(GROUPS_AT, RTMGRP_LINK, true);
      const bound = address.lend((at) => libc().bind(this.#fd, at, SOCKADDR_NL_BYTES));
      check(bound, "bind", "rtnetlink");
      // What changes after the question is told of, what changed before is in the answer.
      this.#ask();
      this.#hear();
      this.#events = epollOf(this.#fd);
    } catch (error) {
      close(this.#fd);
      throw error;
    }
    try {
      this.#watch = new FdWatch(this.#events, () => {
        const before = this.#state;
        this.#hear();
        if (this.#state !== before) this.#changed(this.#state);
      });
      this.#watch.unref();
    } catch (error) {
      close(this.#events);
      close(this.#fd);
      throw error;
    }
  }

  get state(): InterfaceState {
    return this.#state;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watch.close();
    close(this.#events);
    close(this.#fd);
  }

  #ask(): void {
    const { bytes, view } = this.#messages;
    bytes.fill(0, 0, Message.BYTES);
    view.setUint32(Message.LENGTH, Message.BYTES, true);
    view.setUint16(Message.TYPE, RTM_GETLINK, true);
    view.setUint16(Message.FLAGS, NLM_F_REQUEST, true);
    view.setInt32(Message.INDEX, this.#index, true);
    write(this.#fd, this.#messages, Message.BYTES);
  }

  /** Reads what the kernel has told until there is no more. */
  #hear(): void {
    let isLost = false;
    for (;;) {
      let length: number | undefined;
      try {
        length = read(this.#fd, this.#messages);
      } catch (error) {
        // More was told than the socket holds: some of it is lost, as the answer would be until it is empty.
        if (!(error instanceof SystemCallError) || error.errno !== "ENOBUFS") throw error;
        isLost = true;
        continue;
      }
      if (length === undefined) {
        if (!isLost) return;
        isLost = false;
        this.#ask();
        continue;
      }
      const { view } = this.#messages;
      for (let at = 0; at + Message.BYTES <= length; ) {
        this.#take(at);
        // Messages begin at multiples of 4 (NLMSG_ALIGN).
        at += Math.max(Message.BYTES, (view.getUint32(at + Message.LENGTH, true) + 3) & ~3);
      }
    }
  }

  #take(at: number): void {
    const { view } = this.#messages;
    if (view.getInt32(at + Message.INDEX, true) !== this.#index) return;
    const type = view.getUint16(at + Message.TYPE, true);
    if (type === RTM_DELLINK) this.#state = "gone";
    if (type !== RTM_NEWLINK) return;
    const flags = view.getUint32(at + Message.INTERFACE_FLAGS, true);
    this.#state = (flags & IFF_UP) !== 0 && (flags & IFF_LOWER_UP) !== 0 ? "up" : "down";
  }
}
