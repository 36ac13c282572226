import { NorthbridgeError } from "@northbridge/core/contracts";

/**
 * What host and agent say to each other. A request is two 32-bit lengths, a command for the shell and its standard
 * input; the agent answers with frames: a kind, a 32-bit length, and that many bytes. All little-endian.
 */
export const Frame: {
  /** The agent is there. */
  readonly HELLO: 0;
  readonly STDOUT: 1;
  readonly STDERR: 2;
  /** The command has ended: four bytes as `wait` gives them. */
  readonly EXIT: 3;
} = { HELLO: 0, STDOUT: 1, STDERR: 2, EXIT: 3 };

/** Bytes of a command: Linux takes no longer argument (MAX_ARG_STRLEN). */
export const MOST_COMMAND: number = 128 * 1024 - 1;

/** A request. Throws `NB_CONFIG` where the command is too long. */
export function encodeRequest(command: string, input: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(command);
  if (text.length > MOST_COMMAND || text.includes(0)) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `exec: expected a command of up to ${MOST_COMMAND} bytes, none of them zero, found ${text.length} bytes`,
    );
  }
  const request = new Uint8Array(8 + text.length + input.length);
  const data = new DataView(request.buffer);
  data.setUint32(0, text.length, true);
  data.setUint32(4, input.length, true);
  request.set(text, 8);
  request.set(input, 8 + text.length);
  return request;
}

/** One frame of the agent's. */
export interface AgentFrame {
  readonly kind: number;
  readonly bytes: Uint8Array;
}

const HEADER = 5;

/** Takes frames out of a stream of bytes. */
export class FrameReader {
  #pending: Uint8Array[] = [];
  #length = 0;

  push(bytes: Uint8Array): void {
    this.#pending.push(bytes);
    this.#length += bytes.length;
  }

  /** The next whole frame. */
  take(): AgentFrame | undefined {
    if (this.#length < HEADER) return undefined;
    const all =
      this.#pending.length === 1 ? (this.#pending[0] ?? new Uint8Array()) : Buffer.concat(this.#pending);
    this.#pending = [all];
    const data = new DataView(all.buffer, all.byteOffset, all.length);
    const length = data.getUint32(1, true);
    if (all.length < HEADER + length) return undefined;
    const rest = all.subarray(HEADER + length);
    this.#pending = [rest];
    this.#length = rest.length;
    return { kind: data.getUint8(0), bytes: all.slice(HEADER, HEADER + length) };
  }
}

/** The shell's status of what `wait` gave: 128 and the signal where one ended it. */
export function exitStatus(wait: Uint8Array): number {
  const value = new DataView(wait.buffer, wait.byteOffset).getUint16(0, true);
  const signal = value & 0x7f;
  return signal === 0 ? value >>> 8 : 128 + signal;
}
