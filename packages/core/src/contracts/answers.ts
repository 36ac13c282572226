import type { IoRegion, IoWidth } from "./io.ts";

/** An `IoHandler` whose author may not have had a compiler. Who wraps one gives its results on. */
export interface UntrustedHandler {
  read(offset: number, width: IoWidth): unknown;
  write(offset: number, width: IoWidth, value: number): unknown;
}

/** Whether a handler's answer to a read is one: an unsigned integer of `width` bytes. */
export const isAnswer = (answer: unknown, width: IoWidth): answer is number =>
  typeof answer === "number" &&
  answer >>> 0 === answer &&
  (width === 4 || answer <= (width === 2 ? 0xffff : 0xff));

/** What is wrong with what a handler gave, for a `DeviceFault`. A promise is nobody's any more. */
export function badAnswer(answer: unknown): string {
  if (answer instanceof Promise) {
    answer.catch(() => undefined);
    return "gave a promise; register handlers are synchronous: queue the work and complete it by an interrupt";
  }
  return `gave ${describeAnswer(answer)}, expected an unsigned integer of the access's width`;
}

/** Throws a `TypeError` where an interrupt line is given something else than a level: a bit of a register, NaN. */
export function expectLevel(level: unknown): void {
  if (typeof level === "boolean") return;
  throw new TypeError(`an interrupt line was set to ${describeAnswer(level)}, expected true or false`);
}

function describeAnswer(answer: unknown): string {
  switch (typeof answer) {
    case "bigint":
      return `the bigint ${answer}n`;
    case "string":
      return `the string ${JSON.stringify(answer)}`;
    case "object":
      return answer === null ? "null" : "an object";
    case "function":
    case "symbol":
      return `a ${typeof answer}`;
    default:
      return String(answer);
  }
}

/** One access as faults and logs name it: `write thermometer+0x0 = 0x1 (4 bytes)`. @param width negative for a write */
export function accessInWords(
  { name }: Pick<IoRegion, "name">,
  offset: number,
  width: number,
  value?: string,
): string {
  const kind = width < 0 ? "write" : "read";
  const bytes = Math.abs(width);
  const is = value === undefined ? "" : ` = ${value}`;
  return `${kind} ${name}+0x${offset.toString(16)}${is} (${bytes} ${bytes === 1 ? "byte" : "bytes"})`;
}
