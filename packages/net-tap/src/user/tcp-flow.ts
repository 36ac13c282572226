import type { Duplex } from "node:stream";
import type { ByteStore } from "../tcp/byte-store.ts";
import type { TcpEndpointOptions, TcpOutput, TcpUser } from "../tcp/contract.ts";
import { TcpEndpoint } from "../tcp/endpoint.ts";
import type { Segment } from "../tcp/segment.ts";
import { type HostStream, resetStream } from "./host-stream.ts";
import { HostWriter } from "./host-writer.ts";

/** Who keeps a flow. */
export interface FlowOwner {
  /** The guest is done; the host has not read all yet. `onGone` follows once it has, or the flow is disposed of. */
  onLinger(): void;
  /** Nothing is left of it. */
  onGone(): void;
}

/**
 * One connection: the guest's half ends in our endpoint, the other in a socket of the host, and each is read no faster
 * than the other takes it. Half-closing and resets pass through both ways.
 */
export class TcpFlow implements TcpUser {
  readonly #host: HostStream;
  readonly #stream: Duplex;
  readonly #writer: HostWriter;
  readonly #owner: FlowOwner;
  #endpoint: TcpEndpoint | undefined;
  #paused = false;
  #over = false;

  constructor(host: HostStream, store: ByteStore, owner: FlowOwner) {
    const { stream } = host;
    this.#host = host;
    this.#stream = stream;
    this.#owner = owner;
    this.#writer = new HostWriter(stream, store, (length) => {
      this.#endpoint?.consumed(length);
    });
    if (host.kind === "tcp") host.stream.setNoDelay(true);
    stream.on("data", (chunk: Uint8Array) => {
      this.take(chunk);
    });
    stream.on("end", () => this.#endpoint?.end());
    stream.on("error", () => {
      /* `close` follows and says so. */
    });
    stream.on("close", (hadError?: boolean) => {
      if (hadError === true || !stream.readableEnded) this.#endpoint?.abort();
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
    this.#stream.pause();
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
    this.#stream.pause();
  }

  onEstablished(): void {
    this.#resume();
  }

  onData(bytes: Uint8Array): void {
    // The host no longer listens: what the guest says is lost, as a RST would tell it.
    if (this.#stream.destroyed) this.#endpoint?.consumed(bytes.length);
    else this.#writer.write(bytes);
  }

  onEnd(): void {
    this.#writer.end();
  }

  onAcknowledged(): void {
    this.#resume();
  }

  onClosed(reset: boolean): void {
    if (!reset && this.#writer.isDraining) {
      this.#owner.onLinger();
      return;
    }
    if (reset) resetStream(this.#host);
    else this.#stream.destroy();
    this.#gone();
  }

  /** The guest has begun another connection on these ports: what it sent on this one still goes to the host. */
  leave(): void {
    this.#endpoint?.dispose();
    this.onClosed(false);
  }

  /** Drops both halves without a word to the guest. */
  dispose(): void {
    this.#over = true;
    this.#endpoint?.dispose();
    this.#stream.destroy();
  }

  #resume(): void {
    const endpoint = this.#endpoint;
    if (!this.#paused || endpoint === undefined || endpoint.state === "SYN_SENT") return;
    if (endpoint.sendRoom < endpoint.unacknowledgedBytes) return;
    this.#paused = false;
    this.#stream.resume();
  }

  #gone(): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.onGone();
  }
}
