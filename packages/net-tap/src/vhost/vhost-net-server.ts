import {
  type EventFd,
  SystemCallError,
  VhostNet,
  type VhostRegion,
  type VhostRing,
} from "@northbridge/linux";
import { type NetOffloads, NorthbridgeError } from "@northbridge/sdk";
import { FeatureSet } from "@northbridge/sdk/virtio";
import { OpenTap, TAP_HEADER_LENGTH } from "../tap/open-tap.ts";
import type { TapOptions } from "../tap/tap-options.ts";

const DEVICE = "/dev/vhost-net";
const INSTEAD = "or use virtioNet with link: { kind: tap }";

/** Options of the kernel's vhost-net: a tap's, of one queue, and where the host has it. */
export interface VhostNetOptions extends Omit<TapOptions, "queues"> {
  /** @defaultValue `"/dev/vhost-net"` */
  readonly device?: string | undefined;
}

/** What the kernel needs of an open tap. */
export type VhostTap = Pick<OpenTap, "name" | "mtu" | "fds" | "setOffloads" | "close">;

/**
 * The kernel's vhost-net on a tap, as what serves a network card's two rings: 0 receives, 1 transmits. Frames go between
 * guest memory and the tap without this process. Its methods reject with what the kernel refuses.
 */
export class VhostNetServer {
  /** Features of rings and frames that the kernel offers. */
  readonly features: FeatureSet;
  /** Name of the interface. */
  readonly name: string;
  readonly mtu: number;
  readonly #vhost: VhostNet;
  readonly #tap: VhostTap;
  readonly #running = new Set<number>();

  /** Both are this object's from now on. Throws `SystemCallError`. */
  constructor(vhost: VhostNet, tap: VhostTap) {
    this.#vhost = vhost;
    this.#tap = tap;
    this.name = tap.name;
    this.mtu = tap.mtu;
    this.features = new FeatureSet(...vhost.features());
  }

  /** Opens both. Throws `NB_CONFIG`, or `NB_HOST` with the remedy. */
  static open({ device = DEVICE, ...options }: VhostNetOptions): VhostNetServer {
    const tap = OpenTap.open(options);
    try {
      if (tap.headerLength !== TAP_HEADER_LENGTH)
        throw new NorthbridgeError("NB_HOST", "fds: expected a tap that was opened with IFF_VNET_HDR");
      return new VhostNetServer(openVhost(device), tap);
    } catch (error) {
      tap.close();
      throw error;
    }
  }

  /** Says what the guest takes on: frames come to it with that undone. */
  setOffloads(taken: NetOffloads): void {
    this.#tap.setOffloads(taken);
  }

  setFeatures({ low, high }: FeatureSet): Promise<void> {
    return soon(() => {
      this.#vhost.setFeatures(low, high);
    });
  }

  setMemory(regions: readonly VhostRegion[]): Promise<void> {
    return soon(() => {
      this.#vhost.setMemory(regions);
    });
  }

  startRing(
    index: number,
    place: VhostRing & { readonly size: number; readonly base: number },
    kick: EventFd,
    call: EventFd,
  ): Promise<void> {
    return soon(() => {
      this.#vhost.setRing(index, place, place.size, place.base, kick.fd, call.fd);
    });
  }

  enableRing(index: number, isEnabled: boolean): Promise<void> {
    return soon(() => {
      this.#vhost.setBackend(index, isEnabled ? this.#tap.fds[0] : undefined);
      if (isEnabled) this.#running.add(index);
      else this.#running.delete(index);
    });
  }

  /** Takes the tap from a ring, which waits for what is under way: where in the ring to go on. */
  stopRing(index: number): Promise<number> {
    return soon(() => {
      this.#stop(index);
      return this.#vhost.ringBase(index);
    });
  }

  close(): void {
    for (const index of this.#running) this.#stop(index);
    this.#vhost.close();
    this.#tap.close();
  }

  #stop(index: number): void {
    if (this.#running.delete(index)) this.#vhost.setBackend(index, undefined);
  }
}

const soon = <T>(body: () => T): Promise<T> => Promise.resolve().then(body);

function openVhost(device: string): VhostNet {
  try {
    return VhostNet.open(device);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    throw new NorthbridgeError("NB_HOST", `device: ${diagnose(error, device)}`, { cause: error });
  }
}

function diagnose({ errno, message }: SystemCallError, device: string): string {
  if (errno === "ENOENT" || errno === "ENODEV" || errno === "ENXIO")
    return `there is no ${device}: \`modprobe vhost_net\`, ${INSTEAD}`;
  if (errno === "EACCES" || errno === "EPERM")
    return `this user may not open ${device}: join the group that it belongs to, ${INSTEAD}`;
  return `expected the kernel's vhost-net at ${device}: ${message}`;
}
