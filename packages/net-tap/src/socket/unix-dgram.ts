import {
  CannotListen,
  connectUnixDatagrams,
  FdWatch,
  ListeningSocket,
  read,
  RootedBuffer,
  SystemCallError,
  write,
} from "@northbridge/linux";
import type { NetBackend } from "@northbridge/sdk";
import { gather, lengthOf, LONGEST_FRAME } from "../link/frame.ts";
import { RoomWatch } from "../link/room-watch.ts";
import { cannotListen } from "./listen.ts";

/** Frames of one wake-up: what else the event loop has to do comes in between. */
const BATCH = 64;

/** Frames as datagrams between two Unix sockets, as QEMU's `-netdev dgram` has them with `local.type=unix`. */
export class UnixDgramNet implements NetBackend {
  readonly mtu: number;
  readonly #remote: string;
  readonly #socket: ListeningSocket;
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

  /** Throws `NB_HOST` where something is at `local` that somebody has. */
  constructor(local: string, remote: string, mtu: number) {
    this.#remote = remote;
    this.mtu = mtu;
    try {
      this.#socket = ListeningSocket.forDatagrams(local);
    } catch (error) {
      throw error instanceof CannotListen ? cannotListen("local", error) : error;
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
        if (!this.#isConnected) connectUnixDatagrams(this.#socket.fd, this.#remote);
        this.#isConnected = true;
        if (write(this.#socket.fd, this.#outgoing, length) !== undefined) return true;
        this.#room.wait(this.#socket.fd, () => {
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
    this.#readable ??= new FdWatch(this.#socket.fd, () => {
      this.#drain();
    });
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    this.#readable?.close();
    this.#room.close();
    this.#socket.close();
    return Promise.resolve();
  }

  #drain(): void {
    for (let left = BATCH; left > 0 && !this.#isClosed; left -= 1) {
      let length: number | undefined;
      try {
        length = read(this.#socket.fd, this.#incoming);
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
