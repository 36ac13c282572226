import type * as linux from "@northbridge/linux";
import { beforeEach, expect, it, vi } from "vitest";
import { Request } from "../src/abi/spec.ts";
import { setTscRate } from "../src/abi/tsc-rate.ts";

const HOST = 2_600_000;
let rate = HOST;
let isRefused = false;
/** What KVM was asked for. */
const asked: number[] = [];

vi.mock("@northbridge/linux", async (original) => ({
  ...(await original<typeof linux>()),
  ioctl: (_fd: number, request: number) => (request === Request.KVM_GET_TSC_KHZ ? rate : -1),
  ioctlUnchecked: (_fd: number, request: number, khz: number) => {
    if (request !== Request.KVM_SET_TSC_KHZ) return -1;
    asked.push(khz);
    if (isRefused) return -1;
    rate = khz;
    return 0;
  },
}));

beforeEach(() => {
  rate = HOST;
  isRefused = false;
  asked.length = 0;
});

it("a counter takes any rate where the processor scales it, unless KVM refuses (KVM API §4.55)", () => {
  expect([setTscRate(0, 1_000_000, true), rate]).toEqual([true, 1_000_000]);
  isRefused = true;
  expect(setTscRate(0, 3_000_000, true)).toBe(false);
});

it("elsewhere it takes its own rate and those that KVM takes for the same, 250 in a million away", () => {
  expect([setTscRate(0, HOST, false), asked]).toEqual([true, []]);
  expect([setTscRate(0, HOST + 600, false), rate]).toEqual([true, HOST + 600]);
  rate = HOST;
  asked.length = 0;
  for (const khz of [HOST + 700, HOST - 700, 1_000_000, 4_000_000])
    expect([setTscRate(0, khz, false), asked]).toEqual([false, []]);
});
