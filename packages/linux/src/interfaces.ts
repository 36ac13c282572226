import { close, ioctlBuffer } from "./files.ts";
import { libc } from "./libc.ts";
import type { RootedBuffer } from "./rooted-buffer.ts";
import { check } from "./system-call-error.ts";
import { addressIn, interfaceRequest, SIOCGIFHWADDR } from "./tap.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

/** Requests on any socket about interfaces (linux/sockios.h). */
const Request = {
  SIOCGIFFLAGS: 0x8913,
  SIOCSIFFLAGS: 0x8914,
  SIOCGIFMTU: 0x8921,
  SIOCSIFMTU: 0x8922,
  SIOCGIFINDEX: 0x8933,
  SIOCBRADDIF: 0x89a2,
} as const;

const IFF_UP = 1;
const VALUE_AT = 16;

/** Makes a request about the interface `name`. Throws `SystemCallError`. */
function request<T>(name: string, body: (fd: number, request: RootedBuffer) => T): T {
  const fd = check(libc().socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", `interface ${name}`);
  try {
    return body(fd, interfaceRequest(name));
  } finally {
    close(fd);
  }
}

/** The largest payload of a frame of an interface of this network namespace. Throws `SystemCallError`. */
export function interfaceMtu(name: string): number {
  return request(name, (fd, ifreq) => {
    ioctlBuffer(fd, Request.SIOCGIFMTU, ifreq, `SIOCGIFMTU of ${name}`);
    return ifreq.view.getInt32(VALUE_AT, true);
  });
}

/** Hardware address of an interface of this network namespace, in hexadecimal digits. Throws `SystemCallError`. */
export function interfaceAddress(name: string): string {
  return request(name, (fd, ifreq) => {
    ioctlBuffer(fd, SIOCGIFHWADDR, ifreq, `SIOCGIFHWADDR of ${name}`);
    return addressIn(ifreq);
  });
}

/** Throws `SystemCallError`. */
export function setInterfaceMtu(name: string, mtu: number): void {
  request(name, (fd, ifreq) => {
    ifreq.view.setInt32(VALUE_AT, mtu, true);
    ioctlBuffer(fd, Request.SIOCSIFMTU, ifreq, `SIOCSIFMTU of ${name}`);
  });
}

/** Brings an interface up, where it is not: that takes rights. Throws `SystemCallError`. */
export function setInterfaceUp(name: string): void {
  request(name, (fd, ifreq) => {
    ioctlBuffer(fd, Request.SIOCGIFFLAGS, ifreq, `SIOCGIFFLAGS of ${name}`);
    const flags = ifreq.view.getUint16(VALUE_AT, true);
    if ((flags & IFF_UP) !== 0) return;
    ifreq.view.setUint16(VALUE_AT, flags | IFF_UP, true);
    ioctlBuffer(fd, Request.SIOCSIFFLAGS, ifreq, `SIOCSIFFLAGS of ${name}`);
  });
}

/** The number that the kernel knows an interface of this network namespace by. Throws `SystemCallError`. */
export function interfaceIndex(name: string): number {
  return request(name, (fd, ifreq) => {
    ioctlBuffer(fd, Request.SIOCGIFINDEX, ifreq, `SIOCGIFINDEX of ${name}`);
    return ifreq.view.getInt32(VALUE_AT, true);
  });
}

/** Makes an interface a port of a bridge. Throws `SystemCallError`. */
export function attachToBridge(bridge: string, name: string): void {
  const index = interfaceIndex(name);
  request(bridge, (fd, ifreq) => {
    ifreq.view.setInt32(VALUE_AT, index, true);
    ioctlBuffer(fd, Request.SIOCBRADDIF, ifreq, `SIOCBRADDIF of ${name} to ${bridge}`);
  });
}
