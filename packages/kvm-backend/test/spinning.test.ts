import { expect, it } from "vitest";
import { Turn, Word, WORDS } from "../src/vcpu/mailbox.ts";
import { CALM, Spinning } from "../src/vcpu/spinning.ts";

it("after looking in vain, the machine thread sleeps at once for a while, and looks again then", () => {
  const words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
  const spinning = new Spinning(words, 100);
  const isBackAt = (turn: number): boolean => {
    Atomics.store(words, Word.TURN, turn);
    return spinning.isBack();
  };
  expect(isBackAt(Turn.MACHINE)).toBe(true);
  expect(isBackAt(Turn.GUEST)).toBe(false);
  for (let i = 0; i < CALM; i++) expect(isBackAt(Turn.MACHINE)).toBe(false);
  expect(isBackAt(Turn.MACHINE)).toBe(true);
  // A thread that ends is no guest that is back, and nothing was looked for in vain.
  expect(isBackAt(Turn.QUIT)).toBe(false);
  expect(isBackAt(Turn.MACHINE)).toBe(true);
});
