import type { Ipv4 } from "../wire/address.ts";
import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { Dns } from "../wire/spec.ts";

/** The one question of a query (RFC 1035 §4.1.2). */
export interface Question {
  /** Lower case, without the last dot. */
  readonly name: string;
  readonly type: number;
  /** Where the question ends in the message. */
  readonly end: number;
}

/** The question of a standard query, or `undefined` where the message is none. */
export function parseQuestion(message: Uint8Array): Question | undefined {
  if (message.length < Dns.HEADER_LENGTH) return undefined;
  const flags = get16(message, Dns.FLAGS);
  if ((flags & (Dns.RESPONSE | Dns.OPCODE_MASK)) !== 0 || get16(message, Dns.QUESTIONS) !== 1)
    return undefined;
  const labels: string[] = [];
  let at: number = Dns.HEADER_LENGTH;
  for (;;) {
    const length = message[at];
    // A question has no pointers (RFC 1035 §4.1.4): nothing stands before it.
    if (length === undefined || length > 63 || at + length >= message.length) return undefined;
    at += 1;
    if (length === 0) break;
    labels.push(String.fromCharCode(...message.subarray(at, at + length)));
    at += length;
  }
  if (at + 4 > message.length || get16(message, at + 2) !== Dns.CLASS_IN) return undefined;
  return { name: labels.join(".").toLowerCase(), type: get16(message, at), end: at + 4 };
}

/** An answer with addresses, or with none, to `query`. */
export function answerWith(query: Uint8Array, question: Question, addresses: readonly Ipv4[]): Uint8Array {
  const answer = new Uint8Array(question.end + addresses.length * 16);
  answer.set(query.subarray(0, question.end));
  const desired = get16(query, Dns.FLAGS) & Dns.RECURSION_DESIRED;
  put16(answer, Dns.FLAGS, Dns.RESPONSE | Dns.AUTHORITATIVE | Dns.RECURSION_AVAILABLE | desired);
  put16(answer, Dns.ANSWERS, addresses.length);
  put32(answer, Dns.AUTHORITIES, 0);
  addresses.forEach((address, index) => {
    const at = question.end + index * 16;
    put16(answer, at, 0xc000 | Dns.HEADER_LENGTH);
    put16(answer, at + 2, Dns.TYPE_A);
    put16(answer, at + 4, Dns.CLASS_IN);
    put32(answer, at + 6, 60);
    put16(answer, at + 10, 4);
    put32(answer, at + 12, address);
  });
  return answer;
}

/** An answer that says only `code` (RFC 1035 §4.1.1). */
export function failWith(query: Uint8Array, question: Question, code: number): Uint8Array {
  const answer = answerWith(query, question, []);
  const desired = get16(query, Dns.FLAGS) & Dns.RECURSION_DESIRED;
  put16(answer, Dns.FLAGS, Dns.RESPONSE | Dns.RECURSION_AVAILABLE | desired | code);
  return answer;
}

/** The IPv4 addresses among the answers of a message; what does not parse ends the list. */
export function answeredAddresses(message: Uint8Array): Ipv4[] {
  const found: Ipv4[] = [];
  let at: number | undefined = Dns.HEADER_LENGTH;
  for (let left = get16(message, Dns.QUESTIONS); left > 0; left -= 1) {
    at = skipName(message, at);
    if (at === undefined) return found;
    at += 4;
  }
  for (let left = get16(message, Dns.ANSWERS); left > 0; left -= 1) {
    at = skipName(message, at);
    if (at === undefined || at + 10 > message.length) return found;
    const length = get16(message, at + 8);
    if (get16(message, at) === Dns.TYPE_A && length === 4 && at + 14 <= message.length) {
      found.push(get32(message, at + 10));
    }
    at += 10 + length;
  }
  return found;
}

function skipName(message: Uint8Array, from: number): number | undefined {
  let at = from;
  for (;;) {
    const length = message[at];
    if (length === undefined) return undefined;
    if (length >= 0xc0) return at + 2;
    at += 1 + length;
    if (length === 0) return at;
  }
}
