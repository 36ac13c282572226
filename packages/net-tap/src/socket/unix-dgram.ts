import { rmSync, statSync } from "node:fs";
import {
  bindUnixDatagrams,
  close,
  connectUnixDatagrams,
  FdWatch,
  read,
  RootedBuffer,
  SystemCallError,
  write,
} from "@northbridge/linux";
import { type NetBackend, NorthbridgeError } from "@northbridge/sdk";
import { gather, lengthOf, LONGEST_FRAME } from "../link/frame.ts";
import { RoomWatch } from "../link/room-watch.ts";

/** Frames of one wake-up: what else the event loop has to do comes in between. */
const BATCH = 64;

/** Frames as datagrams between two Unix sockets, as QEMU's `-netdev dgram` has them with `local.type=unix`. */
export class UnixDgramNet implements NetBackend {
  readonly mtu: number;
  readonly #local: string;
  readonly #remote: string;
  readonly #fd: number;
  readonly #incoming = new RootedBuffer(LONGEST_FRAME);
  readonly #outgoing = new RootedBuffer(LONGEST_FRAME);
  /** Bytes in `incoming` that the guest has had no room for. */
  #pending = 0;
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  #onWritable: () => void = () => undefined;
  #readable: FdWatch | undefined;
  readonly #room = new RoomWatch();
  #isConnected = false;
  #isClosed = false;
  framesDropped = 0;

  /** Throws `NB_HOST` where something is at `local`. */
  constructor(local: string, remote: string, mtu: number) {
    this.#local = local;
    this.#remote = remote;
    this.mtu = mtu;
    try {
      this.#fd = bindUnixDatagrams(local);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const remedy = "remove what is there, or choose another path";
      throw new NorthbridgeError("NB_HOST", `local: cannot listen on ${local}: ${reason}: ${remedy}`, {
        cause: error,
      });
    }
  }

  /** A peer that is not there loses what is sent to it; one that is slow is waited for. */
  send(frame: readonly Uint8Array[]): boolean {
    const length = lengthOf(frame);
    if (this.#isClosed || length > LONGEST_FRAME) {
      this.framesDropped += 1;
      return true;
    }
    gather(frame, this.#outgoing.bytes, 0);
    for (let tries = 0; tries < 2; tries += 1) {
      try {
        if (!this.#isConnected) connectUnixDatagrams(this.#fd, this.#remote);
        this.#isConnected = true;
        if (write(this.#fd, this.#outgoing, length) !== undefined) return true;
        this.#room.wait(this.#fd, () => {
          this.#onWritable();
        });
        return false;
      } catch (error) {
        if (!(error instanceof SystemCallError)) throw error;
        // Another socket may be at the path by now.
        if (!this.#isConnected) break;
        this.#isConnected = false;
      }
    }
    this.framesDropped += 1;
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.resume();
  }

  resume(): void {
    if (this.#isClosed || this.#receive === undefined) return;
    if (this.#pending > 0) {
      if (!this.#receive(this.#incoming.bytes.subarray(0, this.#pending))) return;
      this.#pending = 0;
    }
    this.#readable ??= new FdWatch(this.#fd, () => {
      this.#drain();
    });
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    this.#readable?.close();
    this.#room.close();
    close(this.#fd);
    if (statSync(this.#local, { throwIfNoEntry: false })?.isSocket() === true)
      rmSync(this.#local, { force: true });
    return Promise.resolve();
  }

  #drain(): void {
    for (let left = BATCH; left > 0 && !this.#isClosed; left -= 1) {
      let length: number | undefined;
      try {
        length = read(this.#fd, this.#incoming);
      } catch {
        // The peer that was there is gone (ECONNRESET); another may come.
        this.#isConnected = false;
        return;
      }
      if (length === undefined) return;
      if (length === 0 || this.#receive?.(this.#incoming.bytes.subarray(0, length)) === true) continue;
      this.#pending = length;
      this.#readable?.close();
      this.#readable = undefined;
      return;
    }
  }
}
