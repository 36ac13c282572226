import type { ByteSink, CharBackend } from "@northbridge/core/contracts";

/** Collects guest output. */
export class FakeSink implements ByteSink {
  readonly bytes: number[] = [];

  write(byte: number): void {
    this.bytes.push(byte);
  }

  get text(): string {
    return this.bytes.map((byte) => String.fromCharCode(byte)).join("");
  }
}

/** A console in memory: collects output, and offers typed input until the consumer has taken it. */
export class FakeCharBackend extends FakeSink implements CharBackend {
  /** Times the consumer said that it has room again. */
  resumes = 0;
  #receive: ((bytes: Uint8Array) => number) | undefined;
  #held: Uint8Array = new Uint8Array(0);
  #onPeer: (isPresent: boolean) => void = () => undefined;
  #isPresent = true;
  #onRoom: (hasRoom: boolean) => void = () => undefined;
  #room = Number.POSITIVE_INFINITY;

  connect(receive: (bytes: Uint8Array) => number): void {
    this.#receive = receive;
    this.#offer();
  }

  resume(): void {
    this.resumes++;
    this.#offer();
  }

  watchPeer(listener: (isPresent: boolean) => void): void {
    this.#onPeer = listener;
    listener(this.#isPresent);
  }

  /** Comes to the other end, or leaves it. @defaultValue there from the start */
  setPresent(isPresent: boolean): void {
    this.#isPresent = isPresent;
    this.#onPeer(isPresent);
  }

  watchRoom(listener: (hasRoom: boolean) => void): void {
    this.#onRoom = listener;
    listener(this.#room > 0);
  }

  /** Has room for so many bytes more. @defaultValue for all */
  setRoom(bytes: number): void {
    this.#room = bytes;
    this.#onRoom(bytes > 0);
  }

  override write(byte: number): void {
    super.write(byte);
    if (--this.#room === 0) this.#onRoom(false);
  }

  /** Types text (Latin-1) or bytes; what does not fit is kept and offered again. */
  type(input: string | Uint8Array): void {
    const more = typeof input === "string" ? Uint8Array.from(input, (char) => char.charCodeAt(0)) : input;
    const held = new Uint8Array(this.#held.length + more.length);
    held.set(this.#held);
    held.set(more, this.#held.length);
    this.#held = held;
    this.#offer();
  }

  /** Typed bytes that the consumer has not taken yet. */
  get waiting(): number {
    return this.#held.length;
  }

  #offer(): void {
    if (this.#receive === undefined || this.#held.length === 0) return;
    const taken = this.#receive(this.#held);
    this.#held = this.#held.subarray(taken);
  }
}
