import { EventFd, FdWatch, SystemCallError } from "@northbridge/linux";
import type { DeviceQueue, QueueStateV1 } from "@northbridge/sdk/virtio";
import type { Inflight } from "./inflight-region.ts";

/** How often a ring without a kick descriptor is looked at. */
const POLL_MS = 1;

/** What a front end has told of one ring, and the queue that came of it. */
export class Ring {
  size = 0;
  base: number | undefined;
  /** The front end has set the base since the ring last stopped. */
  isBaseSet = false;
  /** The front end's addresses. */
  addresses: { readonly desc: number; readonly used: number; readonly avail: number } | undefined;
  isEnabled: boolean;
  /** From SET_VRING_KICK to GET_VRING_BASE. */
  isStarted = false;
  queue: DeviceQueue | undefined;
  /** Of a queue that is closed because its memory is not there: how it goes on once it is. */
  waiting: QueueStateV1 | undefined;
  /** Of a queue that is open: what is in flight. */
  inflight: Inflight | undefined;
  /** The front end keeps `inflight`, and gives it to whoever serves the ring next. */
  isKept = false;
  call: EventFd | undefined;
  #kick: EventFd | undefined;
  #error: EventFd | undefined;
  #watch: FdWatch | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(isEnabled: boolean) {
    this.isEnabled = isEnabled;
  }

  /** The counter the driver kicks; without one the ring is polled. The descriptor is this object's where it says true. */
  setKick(fd: number | undefined, kicked: () => void): boolean {
    const kick = fd === undefined ? undefined : adopted(fd);
    if (fd !== undefined && kick === undefined) return false;
    this.#closeKick();
    this.#kick = kick;
    if (kick === undefined) {
      this.#poll = setInterval(kicked, POLL_MS);
    } else {
      this.#watch = new FdWatch(kick.fd, () => {
        kick.drain();
        kicked();
      });
    }
    return true;
  }

  setCall(fd: number | undefined): boolean {
    const call = fd === undefined ? undefined : adopted(fd);
    if (fd !== undefined && call === undefined) return false;
    this.call?.close();
    this.call = call;
    return true;
  }

  setError(fd: number | undefined): boolean {
    const error = fd === undefined ? undefined : adopted(fd);
    if (fd !== undefined && error === undefined) return false;
    this.#error?.close();
    this.#error = error;
    return true;
  }

  signalError(): void {
    this.#error?.signal();
  }

  close(): void {
    this.#closeKick();
    this.call?.close();
    this.#error?.close();
    this.call = undefined;
    this.#error = undefined;
  }

  #closeKick(): void {
    clearInterval(this.#poll);
    this.#poll = undefined;
    this.#watch?.close();
    this.#watch = undefined;
    this.#kick?.close();
    this.#kick = undefined;
  }
}

function adopted(fd: number): EventFd | undefined {
  try {
    return EventFd.adopt(fd);
  } catch (error) {
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
}
