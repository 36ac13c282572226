import type { Socket } from "node:net";
import type { NetBackend } from "@northbridge/sdk";
import { lengthOf, LONGEST_FRAME } from "../link/frame.ts";
import { FrameReader, framed } from "./frame-reader.ts";

/** Frames over one connected stream socket. Its end takes the link down; a new socket may take its place. */
export class StreamLink implements NetBackend {
  readonly mtu: number;
  readonly #onGone: () => void;
  #socket: Socket | undefined;
  #reader = new FrameReader();
  #receive: ((frame: Uint8Array) => boolean) | undefined;
  #onWritable: () => void = () => undefined;
  #onLink: ((isUp: boolean) => void) | undefined;
  framesDropped = 0;

  /** @param onGone the peer is gone, or spoke something else */
  constructor(mtu: number, onGone: () => void) {
    this.mtu = mtu;
    this.#onGone = onGone;
  }

  get isUp(): boolean {
    return this.#socket !== undefined;
  }

  /** Takes over a connected socket. */
  attach(socket: Socket): void {
    this.#socket = socket;
    this.#reader = new FrameReader();
    socket.setNoDelay(true);
    socket.on("data", (chunk: Uint8Array) => {
      this.#reader.push(chunk);
      this.#deliver();
    });
    socket.on("drain", () => {
      this.#onWritable();
    });
    socket.on("error", () => {
      /* `close` follows. */
    });
    socket.on("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      this.#onLink?.(false);
      // What waited for this peer waits no more.
      this.#onWritable();
      this.#onGone();
    });
    this.#onLink?.(true);
    this.#onWritable();
  }

  send(frame: readonly Uint8Array[]): boolean {
    const socket = this.#socket;
    const length = lengthOf(frame);
    if (socket === undefined || length === 0 || length > LONGEST_FRAME) {
      this.framesDropped += 1;
      return true;
    }
    if (socket.writableNeedDrain) return false;
    socket.write(framed(frame, length));
    return true;
  }

  connect(receive: (frame: Uint8Array) => boolean, onWritable: () => void): void {
    this.#receive = receive;
    this.#onWritable = onWritable;
    this.#deliver();
  }

  resume(): void {
    this.#deliver();
  }

  watchLink(listener: (isUp: boolean) => void): void {
    this.#onLink = listener;
    listener(this.isUp);
  }

  close(): Promise<void> {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#receive = undefined;
    socket?.destroy();
    return Promise.resolve();
  }

  #deliver(): void {
    for (let frame = this.#reader.peek(); frame !== undefined; frame = this.#reader.peek()) {
      if (frame === "wrong") {
        this.#socket?.destroy();
        return;
      }
      if (this.#receive?.(frame) !== true) {
        this.#socket?.pause();
        return;
      }
      this.#reader.take(frame);
    }
    this.#socket?.resume();
  }
}
