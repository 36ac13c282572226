import { close, ioctlBuffer, ioctl, open, OpenFlag } from "./files.ts";
import { RootedBuffer } from "./rooted-buffer.ts";

/** Requests of `/dev/vhost-net` (linux/vhost.h), as x86-64 encodes them (asm-generic/ioctl.h). */
export const VhostRequest = {
  VHOST_GET_FEATURES: 0x8008_af00,
  VHOST_SET_FEATURES: 0x4008_af00,
  VHOST_SET_OWNER: 0x0000_af01,
  VHOST_SET_MEM_TABLE: 0x4008_af03,
  VHOST_SET_VRING_NUM: 0x4008_af10,
  VHOST_SET_VRING_ADDR: 0x4028_af11,
  VHOST_SET_VRING_BASE: 0x4008_af12,
  VHOST_GET_VRING_BASE: 0xc008_af12,
  VHOST_SET_VRING_KICK: 0x4008_af20,
  VHOST_SET_VRING_CALL: 0x4008_af21,
  VHOST_SET_VRING_ERR: 0x4008_af22,
  VHOST_NET_SET_BACKEND: 0x4008_af30,
} as const;

/** `struct vhost_memory` and its `struct vhost_memory_region` (linux/vhost_types.h). */
const Memory = {
  NREGIONS: 0,
  REGIONS: 8,
  GUEST_PHYS_ADDR: 0,
  MEMORY_SIZE: 8,
  USERSPACE_ADDR: 16,
  REGION_LENGTH: 32,
} as const;
/** `struct vhost_vring_addr`. */
const VringAddr = { INDEX: 0, DESC: 8, USED: 16, AVAIL: 24, LENGTH: 40 } as const;

/** Guest memory, and where this process has it. */
export interface VhostRegion {
  readonly gpa: number;
  readonly size: number;
  readonly userAddress: number;
}

/** Where this process has the parts of a ring. */
export interface VhostRing {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/** `struct vhost_memory` of these regions. */
export function vhostMemory(regions: readonly VhostRegion[]): RootedBuffer {
  const buffer = new RootedBuffer(Memory.REGIONS + Memory.REGION_LENGTH * regions.length);
  buffer.view.setUint32(Memory.NREGIONS, regions.length, true);
  regions.forEach(({ gpa, size, userAddress }, index) => {
    const at = Memory.REGIONS + Memory.REGION_LENGTH * index;
    put64(buffer, at + Memory.GUEST_PHYS_ADDR, gpa);
    put64(buffer, at + Memory.MEMORY_SIZE, size);
    put64(buffer, at + Memory.USERSPACE_ADDR, userAddress);
  });
  return buffer;
}

/** `struct vhost_vring_addr` of a ring, without a log. */
export function vhostVringAddr(index: number, { desc, avail, used }: VhostRing): RootedBuffer {
  const buffer = new RootedBuffer(VringAddr.LENGTH);
  buffer.view.setUint32(VringAddr.INDEX, index, true);
  put64(buffer, VringAddr.DESC, desc);
  put64(buffer, VringAddr.USED, used);
  put64(buffer, VringAddr.AVAIL, avail);
  return buffer;
}

/** `struct vhost_vring_state` or `struct vhost_vring_file`: a ring, and a number or a descriptor. */
export function vhostVringState(index: number, value: number): RootedBuffer {
  const buffer = new RootedBuffer(8);
  buffer.view.setUint32(0, index, true);
  buffer.view.setInt32(4, value, true);
  return buffer;
}

/** Makes one request of a `/dev/vhost-net`. Throws `SystemCallError`. */
export type VhostChannel = (request: keyof typeof VhostRequest, argument?: RootedBuffer) => void;

/**
 * The kernel's vhost-net: carries frames between the rings of a network device and a tap, without this process. All
 * throw `SystemCallError`.
 */
export class VhostNet {
  readonly #ask: VhostChannel;
  readonly #close: () => void;

  /** Makes this process the owner of what `ask` makes requests of. */
  constructor(ask: VhostChannel, close: () => void) {
    this.#ask = ask;
    this.#close = close;
    ask("VHOST_SET_OWNER");
  }

  /** Opens the device. */
  static open(path = "/dev/vhost-net"): VhostNet {
    const fd = open(path, OpenFlag.O_RDWR);
    const ask: VhostChannel = (request, argument) => {
      if (argument === undefined) ioctl(fd, VhostRequest[request], 0, request);
      else ioctlBuffer(fd, VhostRequest[request], argument, request);
    };
    try {
      return new VhostNet(ask, () => {
        close(fd);
      });
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  /** Feature bits that the kernel offers: low word, high word. */
  features(): readonly [low: number, high: number] {
    const buffer = new RootedBuffer(8);
    this.#ask("VHOST_GET_FEATURES", buffer);
    return [buffer.view.getUint32(0, true), buffer.view.getUint32(4, true)];
  }

  setFeatures(low: number, high: number): void {
    const buffer = new RootedBuffer(8);
    buffer.view.setUint32(0, low, true);
    buffer.view.setUint32(4, high, true);
    this.#ask("VHOST_SET_FEATURES", buffer);
  }

  setMemory(regions: readonly VhostRegion[]): void {
    this.#ask("VHOST_SET_MEM_TABLE", vhostMemory(regions));
  }

  /** Says where a ring of `size` descriptors is and where in it to go on, and by which counters to be told and to tell. */
  setRing(index: number, ring: VhostRing, size: number, base: number, kickFd: number, callFd: number): void {
    this.#ask("VHOST_SET_VRING_NUM", vhostVringState(index, size));
    this.#ask("VHOST_SET_VRING_BASE", vhostVringState(index, base));
    this.#ask("VHOST_SET_VRING_ADDR", vhostVringAddr(index, ring));
    this.#ask("VHOST_SET_VRING_KICK", vhostVringState(index, kickFd));
    this.#ask("VHOST_SET_VRING_CALL", vhostVringState(index, callFd));
  }

  /** Where in a stopped ring to go on. */
  ringBase(index: number): number {
    const state = vhostVringState(index, 0);
    this.#ask("VHOST_GET_VRING_BASE", state);
    return state.view.getUint32(4, true);
  }

  /** Joins a ring to a queue of a tap; `undefined` stops it. */
  setBackend(index: number, tapFd: number | undefined): void {
    this.#ask("VHOST_NET_SET_BACKEND", vhostVringState(index, tapFd ?? -1));
  }

  close(): void {
    this.#close();
  }
}

function put64(buffer: RootedBuffer, at: number, value: number): void {
  buffer.view.setUint32(at, value >>> 0, true);
  buffer.view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
