import {
  adoptTapQueue,
  attachToBridge,
  close,
  enterNamespaceOfTap,
  enterNetworkNamespace,
  interfaceMtu,
  InterfaceWatch,
  openTapQueue,
  setInterfaceMtu,
  setInterfaceUp,
  setNonBlocking,
  setTapHeader,
  setTapOffload,
  setTapPersistent,
  SystemCallError,
  type TapQueue,
  TunFlag,
  TunOffload,
} from "@northbridge/linux";
import { type NetOffloads, NorthbridgeError } from "@northbridge/sdk";
import { checkTapOptions, type TapOptions } from "./tap-options.ts";
import { explainTapError } from "./tap-error.ts";
import { VnetHeader } from "../wire/spec.ts";

/** Of Ethernet, where nobody can ask the interface (RFC 894). */
const USUAL_MTU = 1500;

/** `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6). */
export const TAP_HEADER_LENGTH: number = VnetHeader.LENGTH;

/** Segmentation needs checksums (linux/if_tun.h). */
function offloadFlags(taken: NetOffloads): number {
  if (!taken.checksum) return 0;
  let flags: number = TunOffload.TUN_F_CSUM;
  if (taken.tso4) flags |= TunOffload.TUN_F_TSO4;
  if (taken.tso6) flags |= TunOffload.TUN_F_TSO6;
  if (taken.ecn && (taken.tso4 || taken.tso6)) flags |= TunOffload.TUN_F_TSO_ECN;
  if (taken.uso) flags |= USO;
  return flags;
}

/** The kernel refuses one without the other. */
const USO = TunOffload.TUN_F_USO4 | TunOffload.TUN_F_USO6;
/** What a kernel does for whoever writes to a tap, and leaves to who reads it. */
const OFFLOADS: NetOffloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: true };

/** Whether the kernel knows of UDP segmentation (Linux 6.2). */
function hasUso(fd: number): boolean {
  try {
    setTapOffload(fd, offloadFlags(OFFLOADS));
    return true;
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === "EINVAL") return false;
    throw error;
  }
}

/** The queues of a tap interface that is as its options want it: who carries its frames is another matter. */
export class OpenTap {
  /** Name of the interface. */
  readonly name: string;
  readonly mtu: number;
  /** Non-blocking descriptors, one for each queue. */
  readonly fds: readonly number[];
  /** Bytes in front of each frame: `TAP_HEADER_LENGTH`, or 0 for an adopted interface that has no headers. */
  readonly headerLength: number;
  /** Work that the kernel takes on, and leaves to who reads; `undefined` where frames have no headers. */
  readonly offloads: NetOffloads | undefined;
  /** `undefined` where the interface cannot be seen. */
  readonly #watch: InterfaceWatch | undefined;
  #onLink: ((isUp: boolean) => void) | undefined;

  /** @param isInReach whether this thread is in the interface's network namespace */
  private constructor(queues: readonly TapQueue[], options: TapOptions, isInReach: boolean) {
    const [first] = queues;
    this.name = first?.name ?? "";
    this.fds = queues.map(({ fd }) => fd);
    this.headerLength = ((first?.flags ?? 0) & TunFlag.IFF_VNET_HDR) === 0 ? 0 : TAP_HEADER_LENGTH;
    for (const fd of this.fds) {
      if (this.headerLength === 0) continue;
      setTapHeader(fd, this.headerLength);
      this.offloads = { ...OFFLOADS, uso: hasUso(fd) };
    }
    for (const fd of this.fds) setTapOffload(fd, 0);
    if (options.mtu !== undefined) setInterfaceMtu(this.name, options.mtu);
    if (options.bridge !== undefined) attachToBridge(options.bridge, this.name);
    if (options.up !== false && options.fds === undefined) setInterfaceUp(this.name);
    this.mtu = isInReach ? interfaceMtu(this.name) : USUAL_MTU;
    if (isInReach) this.#watch = new InterfaceWatch(this.name, () => this.#onLink?.(this.isUp));
    if (options.persistent === undefined) return;
    try {
      // Last: where the host refused any of the above, nothing is left behind.
      for (const fd of this.fds) setTapPersistent(fd, options.persistent);
    } catch (error) {
      this.#watch?.close();
      throw error;
    }
  }

  /** Whether the interface is up and has a carrier, as far as that is seen. */
  get isUp(): boolean {
    if (this.#watch === undefined) return true;
    const { state } = this.#watch;
    return state === "up" || (state === "gone" && this.#isElsewhere());
  }

  /** Makes or adopts the interface. Throws `NB_CONFIG`, or `NB_HOST` with the remedy. */
  static open(options: TapOptions): OpenTap {
    checkTapOptions(options);
    const opened: TapQueue[] = [];
    let leave: (() => void) | undefined;
    let isInReach = true;
    try {
      if (options.namespace !== undefined) leave = enterNetworkNamespace(namespacePath(options.namespace));
      if (options.fds !== undefined) {
        for (const fd of options.fds) {
          opened.push(adoptTapQueue(fd));
          setNonBlocking(fd);
        }
        leave = enterNamespaceOfTap(opened[0]?.fd ?? -1);
        isInReach = leave !== undefined;
        if (!isInReach) checkUnreached(options);
      } else {
        const count = options.queues ?? 1;
        const flags = TunFlag.IFF_VNET_HDR | (count > 1 ? TunFlag.IFF_MULTI_QUEUE : 0);
        for (let index = 0; index < count; index += 1) {
          // `%d` has become a number with the first queue.
          opened.push(openTapQueue(opened[0]?.name ?? options.name ?? "nb%d", flags));
        }
      }
      return new OpenTap(opened, options, isInReach);
    } catch (error) {
      for (const { fd } of opened) if (options.fds === undefined) close(fd);
      throw explainTapError(error, options);
    } finally {
      leave?.();
    }
  }

  /** Says what whoever reads frames here takes on: they come with that undone. Only where there are headers. */
  setOffloads(taken: NetOffloads): void {
    for (const fd of this.fds) setTapOffload(fd, offloadFlags(taken));
  }

  /** Tells of `isUp`: at once, and whenever it changes. */
  watchLink(listener: (isUp: boolean) => void): void {
    this.#onLink = listener;
    listener(this.isUp);
  }

  close(): void {
    this.#watch?.close();
    for (const fd of this.fds) close(fd);
  }

  /** Whether it was moved to another network namespace, and not removed. */
  #isElsewhere(): boolean {
    const [fd] = this.fds;
    try {
      return fd !== undefined && adoptTapQueue(fd).name !== "";
    } catch {
      return false;
    }
  }
}

/** Throws `NB_CONFIG` for what only who sees an interface can do to it. */
function checkUnreached({ mtu, bridge }: TapOptions): void {
  const path = mtu === undefined ? "bridge" : "mtu";
  if (mtu === undefined && bridge === undefined) return;
  throw new NorthbridgeError(
    "NB_CONFIG",
    `${path}: the interface of fds is in a network namespace that this user may not enter: leave it to who opened it`,
  );
}

/** Where iproute2 keeps the namespaces that it has names for (ip-netns(8)). */
const namespacePath = (name: string): string => (name.startsWith("/") ? name : `/run/netns/${name}`);
