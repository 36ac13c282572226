import { createWriteStream, fstatSync, open } from "node:fs";
import { once } from "node:events";
import { Socket } from "node:net";
import type { Writable } from "node:stream";
import { promisify } from "node:util";
import { type NetBackend, type NetOffloads, NorthbridgeError } from "@northbridge/sdk";
import { forwardOffloads } from "../link/forward-offloads.ts";
import { lengthOf } from "../link/frame.ts";
import { Direction, pcapngHeader, pcapngPacket, pcapngStatistics } from "./pcapng.ts";

/** Options of `capture()`. */
export interface CaptureOptions {
  /** Where to write: a file, a FIFO, or `/dev/fd/N` of a pipe to a live reader. */
  readonly path: string;
  /** Bytes of each frame to keep. @defaultValue all */
  readonly snapLength?: number | undefined;
  /** Name of the interface in the file. @defaultValue `"net0"` */
  readonly interfaceName?: string | undefined;
  /** Milliseconds since 1970 UTC, with a fraction. @defaultValue the host's */
  readonly nowMs?: (() => number) | undefined;
  /** The file or its reader takes no more: what passes from now on is not in it. */
  readonly warn?: ((line: string) => void) | undefined;
}

/** A reader that is slower than this is not waited for: frames are left out of the capture, and counted. */
const MOST_QUEUED_BYTES = 16 << 20;
const LONGEST_SNAP = 262_144;
/** How long a live reader may take for what is left when the machine ends. */
const PATIENCE_MS = 1000;

/**
 * A back end whose frames, both ways, are written to a pcapng file. What cannot be written is not kept from passing.
 * Frames that were left undone are kept as they passed: large, with partial checksums.
 */
export class Capture implements NetBackend {
  readonly offloads?: NetOffloads;
  readonly setOffloads?: (taken: NetOffloads) => void;
  readonly #inner: NetBackend;
  readonly #stream: Writable;
  readonly #snapLength: number;
  readonly #nowMs: () => number;
  #recorded = 0;
  #dropped = 0;
  #hasFailed = false;

  private constructor(inner: NetBackend, stream: Writable, options: CaptureOptions) {
    this.#inner = inner;
    forwardOffloads(inner, this);
    this.#stream = stream;
    this.#snapLength = options.snapLength ?? LONGEST_SNAP;
    this.#nowMs = options.nowMs ?? (() => performance.timeOrigin + performance.now());
    stream.on("error", ({ message }) => {
      this.#hasFailed = true;
      options.warn?.(`${options.path}: the capture ends here: ${message}`);
    });
    stream.write(pcapngHeader(options.interfaceName ?? "net0", this.#snapLength));
  }

  /** Opens the file. Throws `NB_CONFIG`, or `NB_HOST` where it cannot be written. */
  static async open(inner: NetBackend, options: CaptureOptions): Promise<Capture> {
    const { snapLength = LONGEST_SNAP } = options;
    if (!Number.isInteger(snapLength) || snapLength < 14 || snapLength > LONGEST_SNAP) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `snapLength: expected a whole number from 14 to ${LONGEST_SNAP}, found ${snapLength}`,
      );
    }
    const fd = await promisify(open)(options.path, "w", 0o666).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new NorthbridgeError("NB_HOST", `path: cannot write ${options.path}: ${reason}`, {
        cause: error,
      });
    });
    // A write to a pipe that nobody reads blocks a thread for ever, unless the event loop waits for it.
    const stream = fstatSync(fd).isFIFO()
      ? new Socket({ fd, readable: false, writable: true })
      : createWriteStream("", { fd });
    return new Capture(inner, stream, options);
  }

  get mtu(): number {
    return this.#inner.mtu;
  }

  get stats(): { readonly framesCaptured: number; readonly framesNotCaptured: number } {
    return { framesCaptured: this.#recorded, framesNotCaptured: this.#dropped };
  }

  send(frame: readonly Uint8Array[], header?: Uint8Array): boolean {
    if (!this.#inner.send(frame, header)) return false;
    this.#record(frame, Direction.OUTBOUND);
    return true;
  }

  connect(receive: (frame: Uint8Array, header?: Uint8Array) => boolean, onWritable: () => void): void {
    this.#inner.connect((frame, header) => {
      if (!receive(frame, header)) return false;
      this.#record([frame], Direction.INBOUND);
      return true;
    }, onWritable);
  }

  resume(): void {
    this.#inner.resume();
  }

  watchLink(listener: (isUp: boolean) => void): void {
    if (this.#inner.watchLink === undefined) listener(true);
    else this.#inner.watchLink(listener);
  }

  async close(): Promise<void> {
    await this.#inner.close();
    if (this.#hasFailed || this.#stream.closed) return;
    this.#stream.end(pcapngStatistics(this.#timeUs(), this.#recorded, this.#dropped));
    const stream = this.#stream;
    const patience =
      stream instanceof Socket &&
      setTimeout(() => {
        stream.destroy();
      }, PATIENCE_MS);
    await once(stream, "close").catch(() => undefined);
    if (patience !== false) clearTimeout(patience);
  }

  #record(parts: readonly Uint8Array[], direction: number): void {
    if (this.#hasFailed || this.#stream.writableLength > MOST_QUEUED_BYTES) {
      this.#dropped += 1;
      return;
    }
    this.#recorded += 1;
    this.#stream.write(pcapngPacket(this.#timeUs(), direction, parts, lengthOf(parts), this.#snapLength));
  }

  #timeUs(): number {
    return Math.floor(this.#nowMs() * 1000);
  }
}

/** Writes what passes through a back end, seen from the guest, to a pcapng file. Throws `NB_CONFIG` and `NB_HOST`. */
export function capture(inner: NetBackend, options: CaptureOptions): Promise<Capture> {
  return Capture.open(inner, options);
}
