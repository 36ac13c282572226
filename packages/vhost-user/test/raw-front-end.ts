import {
  close,
  receiveMessage,
  sendMessage,
  setNonBlocking,
  socketPair,
  SystemCallError,
} from "@northbridge/linux";
import { Header, HeaderFlag } from "../src/protocol/spec.ts";

/** A front end that says whatever the test wants. */
export class RawFrontEnd {
  /** The back end's end of the connection. */
  readonly theirs: number;
  readonly #fd: number;
  #isOpen = true;

  constructor() {
    [this.#fd, this.theirs] = socketPair();
    setNonBlocking(this.#fd);
  }

  /** A whole message. False where the back end has gone. */
  send(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    fds: readonly number[] = [],
    flags = 0,
  ): boolean {
    const message = new Uint8Array(Header.LENGTH + payload.length);
    const view = new DataView(message.buffer);
    view.setUint32(Header.REQUEST, request, true);
    view.setUint32(Header.FLAGS, HeaderFlag.VERSION | flags, true);
    view.setUint32(Header.SIZE, payload.length, true);
    message.set(payload, Header.LENGTH);
    return this.sendBytes(message, fds);
  }

  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    if (!this.#isOpen) return false;
    try {
      sendMessage(this.#fd, bytes, fds);
      return true;
    } catch (error) {
      if (error instanceof SystemCallError) return false;
      throw error;
    }
  }

  /** What has come so far, without the headers of the messages. */
  received(): Uint8Array[] {
    const payloads: Uint8Array[] = [];
    for (;;) {
      const header = this.#receive(Header.LENGTH);
      if (header === undefined) return payloads;
      const size = new DataView(header.buffer).getUint32(Header.SIZE, true);
      payloads.push(size === 0 ? header.subarray(0, 0) : (this.#receive(size) ?? header.subarray(0, 0)));
    }
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    close(this.#fd);
  }

  #receive(length: number): Uint8Array | undefined {
    try {
      const received = receiveMessage(this.#fd, length);
      for (const fd of received?.fds ?? []) close(fd);
      return received === undefined || received.bytes.length === 0 ? undefined : received.bytes;
    } catch (error) {
      if (error instanceof SystemCallError) return undefined;
      throw error;
    }
  }
}

/** One turn of the event loop, in which sockets are looked at. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
