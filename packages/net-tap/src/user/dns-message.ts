import { get16, get32, put16, put32 } from "../wire/bytes.ts";
import { type Ip, readIpv6, writeIpv6 } from "../wire/ip.ts";
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

/** Whether `answer` is one to `query`: its id, and its question but for case (RFC 5452 §9.1, RFC 4343 §3). */
export function answersQuestion(answer: Uint8Array, query: Uint8Array, question: Question): boolean {
  if (answer.length < Dns.HEADER_LENGTH || get16(answer, Dns.ID) !== get16(query, Dns.ID)) return false;
  if ((get16(answer, Dns.FLAGS) & Dns.RESPONSE) === 0) return false;
  const count = get16(answer, Dns.QUESTIONS);
  // Who has not understood the query may say so without it.
  if (count === 0) return get16(answer, Dns.ANSWERS) === 0;
  if (count !== 1 || answer.length < question.end) return false;
  const typeAt = question.end - 4;
  for (let at: number = Dns.HEADER_LENGTH; at < question.end; at += 1) {
    const one = answer[at] ?? 0;
    const other = query[at] ?? 0;
    if (one !== other && (at >= typeAt || lowerCase(one) !== lowerCase(other))) return false;
  }
  return true;
}

/** Of ASCII. A label's length is less than "A". */
function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
}

/** An answer to `query` with those of a name's addresses that it asks for. */
export function answerWith(query: Uint8Array, question: Question, addresses: readonly Ip[]): Uint8Array {
  const wanted = addresses.filter((address) =>
    typeof address === "number" ? question.type === Dns.TYPE_A : question.type === Dns.TYPE_AAAA,
  );
  const rdata = question.type === Dns.TYPE_AAAA ? 16 : 4;
  const record = 12 + rdata;
  const answer = new Uint8Array(question.end + wanted.length * record);
  answer.set(query.subarray(0, question.end));
  const desired = get16(query, Dns.FLAGS) & Dns.RECURSION_DESIRED;
  put16(answer, Dns.FLAGS, Dns.RESPONSE | Dns.AUTHORITATIVE | Dns.RECURSION_AVAILABLE | desired);
  put16(answer, Dns.ANSWERS, wanted.length);
  put32(answer, Dns.AUTHORITIES, 0);
  wanted.forEach((address, index) => {
    const at = question.end + index * record;
    put16(answer, at, 0xc000 | Dns.HEADER_LENGTH);
    put16(answer, at + 2, question.type);
    put16(answer, at + 4, Dns.CLASS_IN);
    put32(answer, at + 6, 60);
    put16(answer, at + 10, rdata);
    if (typeof address === "number") put32(answer, at + 12, address);
    else writeIpv6(answer, at + 12, address);
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

/** The addresses in the records of a message, additional ones too; hints of SVCB aside. What does not parse ends the list. */
export function answeredAddresses(message: Uint8Array): Ip[] {
  const found: Ip[] = [];
  let at: number | undefined = Dns.HEADER_LENGTH;
  for (let left = get16(message, Dns.QUESTIONS); left > 0; left -= 1) {
    at = skipName(message, at);
    if (at === undefined) return found;
    at += 4;
  }
  const records =
    get16(message, Dns.ANSWERS) + get16(message, Dns.AUTHORITIES) + get16(message, Dns.ADDITIONALS);
  for (let left = records; left > 0; left -= 1) {
    at = skipName(message, at);
    if (at === undefined || at + 10 > message.length) return found;
    const length = get16(message, at + 8);
    const type = get16(message, at);
    const data = at + 10;
    if (type === Dns.TYPE_A && length === 4 && data + 4 <= message.length) found.push(get32(message, data));
    if (type === Dns.TYPE_AAAA && length === 16 && data + 16 <= message.length) {
      found.push(readIpv6(message, data));
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
