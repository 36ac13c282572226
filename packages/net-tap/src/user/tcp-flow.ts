import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { ByteStore } from "../tcp/byte-store.ts";
import type { TcpEndpointOptions, TcpOutput, TcpUser } from "../tcp/contract.ts";
import { TcpEndpoint } from "../tcp/endpoint.ts";
import type { Segment } from "../tcp/segment.ts";

/** The host's side of a connection: a socket, or a stream inside this process. */
export type HostStream = Duplex & Partial<Pick<Socket, "resetAndDestroy" | "setNoDelay">>;

/**
 * One connection: the guest's half ends in our endpoint, the other in a socket of the host, and each is read no faster
 * than the other takes it. Half-closing and resets pass through both ways.
 */
export class TcpFlow implements TcpUser {
  readonly socket: HostStream;
  readonly #store: ByteStore;
  readonly #onGone: () => void;
  #endpoint: TcpEndpoint | undefined;
  #paused = false;
  #over = false;

  constructor(socket: HostStream, store: ByteStore, onGone: () => void) {
    this.socket = socket;
    this.#store = store;
    this.#onGone = onGone;
    socket.setNoDelay?.(true);
    socket.on("data", (chunk: Uint8Array) => {
      this.take(chunk);
    });
    socket.on("end", () => this.#endpoint?.end());
    socket.on("error", () => {
      /* `close` follows and says so. */
    });
    socket.on("close", (hadError?: boolean) => {
      if (hadError === true || !socket.readableEnded) this.#endpoint?.abort();
      if (this.#endpoint === undefined || this.#endpoint.state === "CLOSED") this.#gone();
    });
  }

  get endpoint(): TcpEndpoint | undefined {
    return this.#endpoint;
  }

  /** The host's side is up: answers the guest's SYN. */
  accept(out: TcpOutput, options: TcpEndpointOptions, syn: Segment): void {
    this.#endpoint = TcpEndpoint.accept(out, this, options, syn);
  }

  /** A client of a forwarded port is there: opens to the guest. Nothing is read before it is open. */
  connect(out: TcpOutput, options: TcpEndpointOptions): void {
    this.socket.pause();
    this.#paused = true;
    this.#endpoint = TcpEndpoint.connect(out, this, options);
  }

  /** Takes what the host sends; `chunk` is the caller's again afterwards. */
  take(chunk: Uint8Array): void {
    const endpoint = this.#endpoint;
    if (endpoint === undefined) return;
    endpoint.send(chunk);
    if (endpoint.sendRoom > 0 || this.#paused) return;
    this.#paused = true;
    this.socket.pause();
  }

  onEstablished(): void {
    this.#resume();
  }

  onData(bytes: Uint8Array): void {
    const { length } = bytes;
    if (this.socket.destroyed || this.socket.writableEnded) {
      // The host no longer listens: what the guest says is lost, as a RST would tell it.
      this.#endpoint?.consumed(length);
      return;
    }
    const copy = this.#store.take(length);
    copy.set(bytes);
    this.socket.write(copy.subarray(0, length), () => {
      this.#store.giveBack(copy);
      this.#endpoint?.consumed(length);
    });
  }

  onEnd(): void {
    this.socket.end();
  }

  onAcknowledged(): void {
    this.#resume();
  }

  onClosed(reset: boolean): void {
    const { socket } = this;
    // What the host has not read yet is still on its way to it: the socket ends by itself once that is through.
    if (!reset && !socket.destroyed && socket.writableEnded && !socket.writableFinished) return;
    if (reset && socket.resetAndDestroy !== undefined) socket.resetAndDestroy();
    else socket.destroy();
    this.#gone();
  }

  /** Drops both halves without a word to the guest. */
  dispose(): void {
    this.#over = true;
    this.#endpoint?.dispose();
    this.socket.destroy();
  }

  #resume(): void {
    const endpoint = this.#endpoint;
    if (!this.#paused || endpoint === undefined || endpoint.state === "SYN_SENT") return;
    if (endpoint.sendRoom < endpoint.unacknowledgedBytes) return;
    this.#paused = false;
    this.socket.resume();
  }

  #gone(): void {
    if (this.#over) return;
    this.#over = true;
    this.#onGone();
  }
}
