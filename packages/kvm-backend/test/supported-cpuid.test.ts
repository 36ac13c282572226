import type * as linux from "@northbridge/linux";
import { expect, it, vi } from "vitest";
import { supportedCpuid } from "../src/abi/cpuid.ts";

/** ECX of leaves 1 and 8000_0001h as a kernel before 6.14 lists them on a host with nested virtualization. */
const LISTED = [
  [1, 1 << 5], // VMX
  [0x8000_0001, (1 << 2) | 1], // SVM, LAHF
] as const;

vi.mock("@northbridge/linux", async (original) => ({
  ...(await original<typeof linux>()),
  ioctl: (_fd: number, _request: number, capability: number) => (capability === 72 ? 1 : 0),
  ioctlBuffer: (_fd: number, _request: number, { view }: { readonly view: DataView }) => {
    // kvm_cpuid2: a number, padding, entries of 40 bytes (function, index, flags, EAX, EBX, ECX, EDX).
    view.setUint32(0, LISTED.length, true);
    LISTED.forEach(([leaf, ecx], i) => {
      view.setUint32(8 + 40 * i, leaf, true);
      view.setUint32(8 + 40 * i + 20, ecx, true);
    });
    return 0;
  },
}));

it("guests are told of the hypervisor and the deadline timer where KVM lists neither, and not of VMX and SVM", () => {
  const [first, extended] = supportedCpuid(-1);
  expect(first?.ecx).toBe(((1 << 31) | (1 << 24)) >>> 0);
  expect(extended?.ecx).toBe(1);
});
