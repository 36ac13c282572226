import {
  adoptTapQueue,
  attachToBridge,
  close,
  enterNetworkNamespace,
  interfaceMtu,
  openTapQueue,
  setInterfaceMtu,
  setInterfaceUp,
  setNonBlocking,
  setTapHeader,
  setTapOffload,
  setTapPersistent,
  type TapQueue,
  TunFlag,
  TunOffload,
} from "@northbridge/linux";
import type { NetOffloads } from "@northbridge/sdk";
import { checkTapOptions, type TapOptions } from "./tap-options.ts";
import { explainTapError } from "./tap-error.ts";
import { VnetHeader } from "../wire/spec.ts";

/** `struct virtio_net_hdr_v1` (virtio 1.3 §5.1.6). */
export const TAP_HEADER_LENGTH: number = VnetHeader.LENGTH;

/** Segmentation needs checksums (linux/if_tun.h). */
function offloadFlags(taken: NetOffloads): number {
  if (!taken.checksum) return 0;
  let flags: number = TunOffload.TUN_F_CSUM;
  if (taken.tso4) flags |= TunOffload.TUN_F_TSO4;
  if (taken.tso6) flags |= TunOffload.TUN_F_TSO6;
  if (taken.ecn && (taken.tso4 || taken.tso6)) flags |= TunOffload.TUN_F_TSO_ECN;
  return flags;
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

  private constructor(queues: readonly TapQueue[], options: TapOptions) {
    const [first] = queues;
    this.name = first?.name ?? "";
    this.fds = queues.map(({ fd }) => fd);
    this.headerLength = ((first?.flags ?? 0) & TunFlag.IFF_VNET_HDR) === 0 ? 0 : TAP_HEADER_LENGTH;
    for (const fd of this.fds) {
      if (this.headerLength > 0) setTapHeader(fd, this.headerLength);
      setTapOffload(fd, 0);
    }
    if (options.mtu !== undefined) setInterfaceMtu(this.name, options.mtu);
    if (options.bridge !== undefined) attachToBridge(options.bridge, this.name);
    if (options.up !== false && options.fds === undefined) setInterfaceUp(this.name);
    this.mtu = interfaceMtu(this.name);
    // Last: where the host refused any of the above, nothing is left behind.
    if (options.persistent === undefined) return;
    for (const fd of this.fds) setTapPersistent(fd, options.persistent);
  }

  /** Makes or adopts the interface. Throws `NB_CONFIG`, or `NB_HOST` with the remedy. */
  static open(options: TapOptions): OpenTap {
    checkTapOptions(options);
    const opened: TapQueue[] = [];
    let leave: (() => void) | undefined;
    try {
      if (options.namespace !== undefined) leave = enterNetworkNamespace(namespacePath(options.namespace));
      if (options.fds !== undefined) {
        for (const fd of options.fds) {
          opened.push(adoptTapQueue(fd));
          setNonBlocking(fd);
        }
      } else {
        const count = options.queues ?? 1;
        const flags = TunFlag.IFF_VNET_HDR | (count > 1 ? TunFlag.IFF_MULTI_QUEUE : 0);
        for (let index = 0; index < count; index += 1) {
          // `%d` has become a number with the first queue.
          opened.push(openTapQueue(opened[0]?.name ?? options.name ?? "nb%d", flags));
        }
      }
      return new OpenTap(opened, options);
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

  close(): void {
    for (const fd of this.fds) close(fd);
  }
}

/** Where iproute2 keeps the namespaces that it has names for (ip-netns(8)). */
const namespacePath = (name: string): string => (name.startsWith("/") ? name : `/run/netns/${name}`);
