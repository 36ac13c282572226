import { close, read, write } from "./files.ts";
import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, SystemCallError } from "./system-call-error.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const NETLINK_ROUTE = 0;

/** `struct nlmsghdr`, then `struct rtmsg` and one attribute (linux/netlink.h, linux/rtnetlink.h). */
const Message = {
  LENGTH: 0,
  TYPE: 4,
  FLAGS: 6,
  SEQUENCE: 8,
  FAMILY: 16,
  DESTINATION_BITS: 17,
  ROUTE_TYPE: 23,
  ATTRIBUTE: 28,
  ADDRESS: 32,
} as const;
const NLM_F_REQUEST = 1;
const RTM_NEWROUTE = 24;
const RTM_GETROUTE = 26;
const RTA_DST = 1;
/** Types of routes that end on this host. */
const RTN_LOCAL = 2;
const RTN_ANYCAST = 4;

/**
 * Asks the kernel, over rtnetlink(7), where addresses lie from this network namespace: as it would send a packet now,
 * whatever the interface's state, and by its rules.
 */
export class HostRoutes {
  readonly #fd: number;
  readonly #question = new RootedBuffer(Message.ADDRESS + 16);
  readonly #answer = new RootedBuffer(4096);
  #sequence = 0;

  /** Throws `SystemCallError`, or where this host is not Linux. */
  constructor() {
    const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#fd = check(libc().socket(AF_NETLINK, type, NETLINK_ROUTE), "socket", "rtnetlink");
  }

  /** Whether packets to `address`, of 4 or 16 bytes, end on this host. Throws `SystemCallError`. */
  isLocal(address: Uint8Array): boolean {
    const { bytes, view } = this.#question;
    const length = Message.ADDRESS + address.length;
    this.#sequence = (this.#sequence + 1) >>> 0;
    view.setUint32(Message.LENGTH, length, true);
    view.setUint16(Message.TYPE, RTM_GETROUTE, true);
    view.setUint16(Message.FLAGS, NLM_F_REQUEST, true);
    view.setUint32(Message.SEQUENCE, this.#sequence, true);
    bytes[Message.FAMILY] = address.length === 4 ? AF_INET : AF_INET6;
    bytes[Message.DESTINATION_BITS] = address.length * 8;
    view.setUint16(Message.ATTRIBUTE, 4 + address.length, true);
    view.setUint16(Message.ATTRIBUTE + 2, RTA_DST, true);
    bytes.set(address, Message.ADDRESS);
    write(this.#fd, this.#question, length);
    const answer = this.#answer;
    // The kernel has answered when `write` comes back; what is left of an earlier question is skipped.
    do {
      if (read(this.#fd, answer) === undefined) throw new SystemCallError("read", "EAGAIN", "rtnetlink");
    } while (answer.view.getUint32(Message.SEQUENCE, true) !== this.#sequence);
    // Anything else is an error: there is no way to the address at all.
    if (answer.view.getUint16(Message.TYPE, true) !== RTM_NEWROUTE) return false;
    const type = answer.bytes[Message.ROUTE_TYPE];
    return type === RTN_LOCAL || type === RTN_ANYCAST;
  }

  close(): void {
    close(this.#fd);
  }
}
