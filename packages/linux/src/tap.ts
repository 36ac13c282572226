import { close, ioctl, ioctlBuffer, open, OpenFlag } from "./files.ts";
import { RootedBuffer } from "./rooted-buffer.ts";

/** Requests of `/dev/net/tun` (linux/if_tun.h), as x86-64 encodes them (asm-generic/ioctl.h). */
export const TunRequest = {
  TUNSETIFF: 0x4004_54ca,
  TUNSETPERSIST: 0x4004_54cb,
  TUNSETOFFLOAD: 0x4004_54d0,
  TUNGETIFF: 0x8004_54d2,
  TUNSETVNETHDRSZ: 0x4004_54d8,
  TUNSETVNETLE: 0x4004_54dc,
  TUNGETDEVNETNS: 0x54e3,
} as const;

/** Flags of TUNSETIFF (linux/if_tun.h). */
export const TunFlag = {
  IFF_TAP: 0x0002,
  IFF_MULTI_QUEUE: 0x0100,
  IFF_PERSIST: 0x0800,
  IFF_NO_PI: 0x1000,
  IFF_VNET_HDR: 0x4000,
} as const;

/** What the reader of a tap takes in one piece (TUNSETOFFLOAD, linux/if_tun.h). */
export const TunOffload = {
  TUN_F_CSUM: 1,
  TUN_F_TSO4: 2,
  TUN_F_TSO6: 4,
  TUN_F_TSO_ECN: 8,
  TUN_F_UFO: 16,
  /** UDP segmentation, of Linux 6.2 and later. */
  TUN_F_USO4: 32,
  TUN_F_USO6: 64,
} as const;

/** `struct ifreq` of x86-64: 16 bytes of name, then the request's own. */
const IFREQ_BYTES = 40;
const NAME_BYTES = 16;
/** Behind the name and the family of a `struct sockaddr`. */
const ADDRESS_AT = 18;
const ADDRESS_BYTES = 6;

/** One queue of a tap interface. */
export interface TapQueue {
  readonly fd: number;
  /** Name of the interface. */
  readonly name: string;
  readonly flags: number;
}

/**
 * Opens a queue of a tap interface, which is made where it is not there. The interface lives in this thread's network
 * namespace and goes with its last queue, unless it is persistent. Throws `SystemCallError`.
 * @param name may hold `%d`, or be empty: the kernel chooses
 */
export function openTapQueue(name: string, flags: number): TapQueue {
  const fd = open("/dev/net/tun", OpenFlag.O_RDWR | OpenFlag.O_NONBLOCK);
  try {
    const request = interfaceRequest(name);
    request.view.setUint16(NAME_BYTES, flags | TunFlag.IFF_TAP | TunFlag.IFF_NO_PI, true);
    ioctlBuffer(fd, TunRequest.TUNSETIFF, request, `TUNSETIFF of ${name}`);
    return { fd, name: nameOf(request), flags: request.view.getUint16(NAME_BYTES, true) };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** Takes over a queue that another process opened. Throws `SystemCallError` where the descriptor is none. */
export function adoptTapQueue(fd: number): TapQueue {
  const request = new RootedBuffer(IFREQ_BYTES);
  ioctlBuffer(fd, TunRequest.TUNGETIFF, request, `TUNGETIFF of fd ${fd}`);
  return { fd, name: nameOf(request), flags: request.view.getUint16(NAME_BYTES, true) };
}

/** SIOCGIFHWADDR (linux/sockios.h): a queue answers for its interface, wherever that is. */
export const SIOCGIFHWADDR = 0x8927;

/** Hardware address of a queue's interface. Throws `SystemCallError`. */
export function tapAddress(fd: number): string {
  const request = new RootedBuffer(IFREQ_BYTES);
  ioctlBuffer(fd, SIOCGIFHWADDR, request, `SIOCGIFHWADDR of fd ${fd}`);
  return addressIn(request);
}

/** `ifr_hwaddr.sa_data`, in hexadecimal digits. */
export function addressIn(request: RootedBuffer): string {
  return Buffer.from(request.bytes.subarray(ADDRESS_AT, ADDRESS_AT + ADDRESS_BYTES)).toString("hex");
}

/** Keeps the interface, or lets it go with its last queue. */
export function setTapPersistent(fd: number, isPersistent: boolean): void {
  ioctl(fd, TunRequest.TUNSETPERSIST, isPersistent ? 1 : 0, "TUNSETPERSIST");
}

/** Sets the length of the header before each frame (`struct virtio_net_hdr_v1` has 12), in little-endian order. */
export function setTapHeader(fd: number, length: number): void {
  const value = new RootedBuffer(4);
  value.view.setInt32(0, length, true);
  ioctlBuffer(fd, TunRequest.TUNSETVNETHDRSZ, value, "TUNSETVNETHDRSZ");
  value.view.setInt32(0, 1, true);
  ioctlBuffer(fd, TunRequest.TUNSETVNETLE, value, "TUNSETVNETLE");
}

/** Says which offloads this reader of the tap takes: of `TunOffload`. */
export function setTapOffload(fd: number, flags: number): void {
  ioctl(fd, TunRequest.TUNSETOFFLOAD, flags, "TUNSETOFFLOAD");
}

/** A `struct ifreq` that names an interface. */
export function interfaceRequest(name: string): RootedBuffer {
  const request = new RootedBuffer(IFREQ_BYTES);
  request.bytes.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1));
  return request;
}

function nameOf(request: RootedBuffer): string {
  const end = request.bytes.indexOf(0);
  return new TextDecoder().decode(
    request.bytes.subarray(0, end < 0 ? NAME_BYTES : Math.min(end, NAME_BYTES)),
  );
}
