import type { Duplex } from "node:stream";
import { NorthbridgeError } from "@northbridge/sdk";

/** More than this is not read ahead of whoever asks. */
const READ_AHEAD = 4 << 20;

/** A stream of bytes read by counts and written with back-pressure: what a protocol of binary messages wants. */
export class ByteStream {
  readonly #stream: Duplex;
  readonly #name: string;
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #waiting:
    | { readonly bytes: number; readonly resolve: () => void; readonly reject: (error: Error) => void }
    | undefined;
  #ended: Error | undefined;
  /** Shared by all who wait for room. */
  #drained: Promise<void> | undefined;
  readonly #onData: (chunk: Uint8Array) => void;
  readonly #onEnd: () => void;
  readonly #onError: (error: Error) => void;

  /** @param name how errors call the other side */
  constructor(stream: Duplex, name: string) {
    this.#stream = stream;
    this.#name = name;
    this.#onData = (chunk) => {
      this.#chunks.push(chunk);
      this.#buffered += chunk.length;
      if (this.#waiting === undefined && this.#buffered > READ_AHEAD) stream.pause();
      this.#look();
    };
    this.#onEnd = () => this.#end(new NorthbridgeError("NB_HOST", `${name}: the connection ended`));
    this.#onError = (error) =>
      this.#end(new NorthbridgeError("NB_HOST", `${name}: ${error.message}`, { cause: error }));
    stream.on("data", this.#onData);
    stream.on("end", this.#onEnd);
    stream.on("close", this.#onEnd);
    stream.on("error", this.#onError);
  }

  /** Exactly `bytes` bytes. Rejects where the stream ends before. One reader at a time. */
  async read(bytes: number): Promise<Uint8Array> {
    if (this.#buffered < bytes) {
      if (this.#ended !== undefined) throw this.#ended;
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { bytes, resolve, reject };
        this.#stream.resume();
      });
    }
    this.#buffered -= bytes;
    const [first] = this.#chunks;
    if (first !== undefined && first.length > bytes) {
      this.#chunks[0] = first.subarray(bytes);
      return first.subarray(0, bytes);
    }
    if (first?.length === bytes) {
      this.#chunks.shift();
      return first;
    }
    const whole = new Uint8Array(bytes);
    let filled = 0;
    while (filled < bytes) {
      const chunk = this.#chunks[0];
      if (chunk === undefined) break;
      const part = chunk.subarray(0, bytes - filled);
      whole.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
    }
    return whole;
  }

  /** Resolves once the stream takes more. */
  async write(...parts: readonly Uint8Array[]): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    let hasRoom = true;
    this.#stream.cork();
    for (const part of parts) hasRoom = this.#stream.write(part);
    this.#stream.uncork();
    if (hasRoom) return;
    this.#drained ??= new Promise<void>((resolve) => {
      const done = (): void => {
        this.#stream.off("drain", done);
        this.#stream.off("close", done);
        this.#drained = undefined;
        resolve();
      };
      this.#stream.on("drain", done);
      this.#stream.on("close", done);
    });
    await this.#drained;
  }

  /** Gives the stream back, for TLS to go on with. Throws where bytes were read already. */
  release(): Duplex {
    if (this.#buffered > 0) {
      throw new NorthbridgeError("NB_HOST", `${this.#name}: bytes came before the TLS handshake`);
    }
    this.#stream.off("data", this.#onData);
    this.#stream.off("end", this.#onEnd);
    this.#stream.off("close", this.#onEnd);
    this.#stream.off("error", this.#onError);
    this.#stream.pause();
    return this.#stream;
  }

  /** Sends what is written and ends; what comes after is not read. */
  end(): void {
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #look(): void {
    if (this.#waiting === undefined || this.#buffered < this.#waiting.bytes) return;
    const { resolve } = this.#waiting;
    this.#waiting = undefined;
    resolve();
  }

  #end(error: Error): void {
    this.#ended ??= error;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#ended);
  }
}

/** A field of a message: its width and value, or bytes as they are. */
export type Field = readonly [bits: 16 | 32 | 64, value: number | bigint] | Uint8Array;

/** Big-endian fields one behind the other, as most of the protocol is. */
export function fields(...values: readonly Field[]): Uint8Array {
  let length = 0;
  for (const value of values) length += value instanceof Uint8Array ? value.length : value[0] / 8;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const value of values) {
    if (value instanceof Uint8Array) {
      bytes.set(value, at);
      at += value.length;
      continue;
    }
    const [bits, number] = value;
    if (bits === 16) view.setUint16(at, Number(number));
    else if (bits === 32) view.setUint32(at, Number(number));
    else view.setBigUint64(at, BigInt(number));
    at += bits / 8;
  }
  return bytes;
}

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
