import { close, setNonBlocking, unlessAgain } from "./files.ts";
import { libc } from "./libc.ts";
import { RootedBuffer } from "./rooted-buffer.ts";
import { check, SystemCallError } from "./system-call-error.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const BACKLOG = 16;
const SUN_PATH_BYTES = 108;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_CTRUNC = 8;

/** `struct msghdr`, `cmsghdr` and `iovec` of x86-64. */
const MSGHDR_BYTES = 56;
const CMSGHDR_BYTES = 16;
const IOVEC_BYTES = 16;

/** A message and the descriptors that came with it. */
export interface ReceivedMessage {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

/** Two connected Unix stream sockets (socketpair(2)). */
export function socketPair(): readonly [number, number] {
  const fds = new RootedBuffer(8);
  check(
    libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.address),
    "socketpair",
    "a Unix socket pair",
  );
  return [fds.view.getInt32(0, true), fds.view.getInt32(4, true)];
}

/** `struct sockaddr_un`. Throws `SystemCallError` where the path does not fit. */
function unixAddress(path: string): RootedBuffer {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length >= SUN_PATH_BYTES) {
    throw new SystemCallError("bind", "ENAMETOOLONG", `${path}: longer than ${SUN_PATH_BYTES - 1} bytes`);
  }
  const address = new RootedBuffer(2 + SUN_PATH_BYTES);
  address.view.setUint16(0, AF_UNIX, true);
  address.bytes.set(bytes, 2);
  return address;
}

/** A non-blocking socket, after a call that may wait. */
function withAddress(
  path: string,
  call: (fd: number, address: RootedBuffer) => number,
  name: string,
  type: number = SOCK_STREAM,
): number {
  const address = unixAddress(path);
  const fd = check(libc().socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "socket", path);
  try {
    check(call(fd, address), name, path);
    setNonBlocking(fd);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

const bindTo = (fd: number, address: RootedBuffer): number =>
  address.lend((at) => libc().bind(fd, at, address.bytes.length));
const connectTo = (fd: number, address: RootedBuffer): number =>
  address.lend((at) => libc().connect(fd, at, address.bytes.length));

/** A non-blocking socket for datagrams at `path`, which nothing may be at. Throws `SystemCallError`. */
export function bindUnixDatagrams(path: string): number {
  return withAddress(path, bindTo, "bind", SOCK_DGRAM);
}

/**
 * Makes the socket at `path` the one that datagrams are written to and the only one heard (unix(7)). Throws
 * `SystemCallError` where none is there.
 */
export function connectUnixDatagrams(fd: number, path: string): void {
  check(connectTo(fd, unixAddress(path)), "connect", path);
}

/** A non-blocking socket that listens at `path`, which nothing may be at. Throws `SystemCallError`. */
export function listenUnix(path: string): number {
  const fd = withAddress(path, bindTo, "bind");
  try {
    check(libc().listen(fd, BACKLOG), "listen", path);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** The next connection to a listening socket, non-blocking; `undefined` where there is none. */
export function acceptUnix(fd: number): number | undefined {
  return unlessAgain(libc().accept4(fd, 0n, 0n, SOCK_CLOEXEC | SOCK_NONBLOCK), "accept4", fd);
}

/** A non-blocking socket connected to who listens at `path`. Throws `SystemCallError`. */
export function connectUnix(path: string): number {
  return withAddress(path, connectTo, "connect");
}

/**
 * A socket connected to who listens at `path`, now or not at all. Throws `SystemCallError`: `EAGAIN` where the queue is
 * full, `EPROTOTYPE` where datagrams are taken, `ECONNREFUSED` where the socket is nobody's (connect(2)).
 */
export function probeUnix(path: string): number {
  return withAddress(path, connectTo, "connect", SOCK_STREAM | SOCK_NONBLOCK);
}

/** A message header, with its vector behind it, over one buffer and over control data where there is some. */
function header(data: RootedBuffer, control: RootedBuffer | undefined): RootedBuffer {
  const message = new RootedBuffer(MSGHDR_BYTES + IOVEC_BYTES);
  const { view } = message;
  view.setBigUint64(16, message.address + BigInt(MSGHDR_BYTES), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(MSGHDR_BYTES, data.address, true);
  view.setBigUint64(MSGHDR_BYTES + 8, BigInt(data.bytes.length), true);
  if (control !== undefined) {
    view.setBigUint64(32, control.address, true);
    view.setBigUint64(40, BigInt(control.bytes.length), true);
  }
  return message;
}

/** sendmsg(2) with descriptors (`SCM_RIGHTS`, unix(7)): bytes sent, `undefined` where it would block. */
export function sendMessage(fd: number, bytes: Uint8Array, fds: readonly number[] = []): number | undefined {
  const data = RootedBuffer.from(bytes);
  let control: RootedBuffer | undefined;
  if (fds.length > 0) {
    control = new RootedBuffer(CMSGHDR_BYTES + ((4 * fds.length + 7) & ~7));
    control.view.setBigUint64(0, BigInt(CMSGHDR_BYTES + 4 * fds.length), true);
    control.view.setInt32(8, SOL_SOCKET, true);
    control.view.setInt32(12, SCM_RIGHTS, true);
    for (const [i, passed] of fds.entries()) control.view.setInt32(CMSGHDR_BYTES + 4 * i, passed, true);
  }
  const message = header(data, control);
  const send = (): number => message.lend((address) => libc().sendmsg(fd, address, MSG_NOSIGNAL));
  const sent = data.lend(() => (control === undefined ? send() : control.lend(send)));
  return unlessAgain(sent, "sendmsg", fd);
}

/**
 * recvmsg(2): `undefined` where nothing is there yet, no bytes at the end of the stream. The descriptors belong to the
 * caller. Throws `SystemCallError`, with every descriptor closed, where more came than `maxFds`.
 */
export function receiveMessage(fd: number, maxBytes: number, maxFds = 8): ReceivedMessage | undefined {
  const data = new RootedBuffer(maxBytes);
  const control = new RootedBuffer(CMSGHDR_BYTES + ((4 * maxFds + 7) & ~7));
  const message = header(data, control);
  const received = unlessAgain(libc().recvmsg(fd, message.address, MSG_CMSG_CLOEXEC), "recvmsg", fd);
  if (received === undefined) return undefined;
  const fds: number[] = [];
  const used = Number(message.view.getBigUint64(40, true));
  if (used >= CMSGHDR_BYTES && control.view.getInt32(12, true) === SCM_RIGHTS) {
    const end = Number(control.view.getBigUint64(0, true));
    for (let at = CMSGHDR_BYTES; at + 4 <= end; at += 4) fds.push(control.view.getInt32(at, true));
  }
  if ((message.view.getInt32(48, true) & MSG_CTRUNC) !== 0 || fds.length > maxFds) {
    for (const passed of fds) close(passed);
    throw new SystemCallError("recvmsg", "MSG_CTRUNC", `fd ${fd}: more than ${maxFds} descriptors came`);
  }
  return { bytes: data.bytes.slice(0, received), fds };
}
