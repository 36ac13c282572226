import { expect, it } from "vitest";
import { parseSize } from "./parse-size.ts";

it.each([
  ["512", 512],
  ["4k", 4096],
  ["64M", 67_108_864],
  ["1.5G", 1_610_612_736],
  ["2T", 2_199_023_255_552],
  ["", undefined],
  ["M", undefined],
  ["-1", undefined],
  ["1.3", undefined],
  ["9999999T", undefined],
])("%s is %s bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});
