import { ioctlBuffer, RootedBuffer, SystemCallError } from "@northbridge/linux";
import { RestoreError, type VcpuState } from "@northbridge/sdk";
import { Request, SizeOf } from "../abi/spec.ts";
import { fromBase64, toBase64 } from "./base64.ts";

const FXSAVE_BYTES = 512;
/** Bytes 464–511 are software's: KVM keeps its own description of the area there. */
const SOFTWARE = 464;
/** XSTATE_BV of the XSAVE header (SDM 1 §13.4.2), and its bits for x87 and SSE. */
const XSTATE_BV = 512;
const XSTATE_FXSAVE = 3n;
/** The header ends here. */
const COMPONENTS_AT = 576;
const DEFAULT_XCR0 = 1n;

/** State components by their bit of XCR0 (SDM 1 §13.1). */
const COMPONENTS = [
  "x87",
  "sse",
  "avx",
  "mpx bounds",
  "mpx configuration",
  "avx512 masks",
  "avx512 upper halves",
  "avx512 upper registers",
  "pt",
  "pku",
  "pasid",
  "cet user",
  "cet supervisor",
  "hdc",
  "uintr",
  "lbr",
  "hwp",
  "amx tile configuration",
  "amx tiles",
] as const;

const componentsOf = (mask: bigint): string =>
  Array.from({ length: 64 }, (_, bit) => bit)
    .filter((bit) => ((mask >> BigInt(bit)) & 1n) !== 0n)
    .map((bit) => COMPONENTS[bit] ?? `component ${bit}`)
    .join(", ");

/** x87, SSE, AVX and later registers of one vCPU, and XCR0. */
export class ExtendedState {
  readonly #fd: number;
  readonly #what: string;
  readonly #xsave: RootedBuffer;
  readonly #isLarge: boolean;
  readonly #xcrs = new RootedBuffer(SizeOf.kvm_xcrs);

  /** @param xsaveBytes of this KVM's area: 4096, or what `KVM_CAP_XSAVE2` says */
  constructor(fd: number, what: string, xsaveBytes: number) {
    this.#fd = fd;
    this.#what = what;
    this.#isLarge = xsaveBytes > SizeOf.kvm_xsave;
    this.#xsave = new RootedBuffer(Math.max(xsaveBytes, SizeOf.kvm_xsave));
  }

  save(): Pick<VcpuState, "fxsave" | "xcr0" | "xsave"> {
    this.#get();
    const { bytes, view } = this.#xsave;
    // Components of zeros are in their initial state, whatever the header says.
    const hasMore =
      (view.getBigUint64(XSTATE_BV, true) & ~XSTATE_FXSAVE) !== 0n &&
      bytes.subarray(COMPONENTS_AT).some((byte) => byte !== 0);
    return {
      fxsave: toBase64(bytes.subarray(0, FXSAVE_BYTES)),
      ...(hasMore && { xsave: toBase64(bytes) }),
      xcr0: this.#hasXcr0() ? this.#xcrs.view.getBigUint64(16, true) : DEFAULT_XCR0,
    };
  }

  /** Throws `NB_RESTORE` naming the state components that this KVM does not take. */
  load({ fxsave, xcr0, xsave }: VcpuState): void {
    const low = fromBase64(`${this.#what}: fxsave`, fxsave, FXSAVE_BYTES);
    const { bytes, view } = this.#xsave;
    const area = xsave === undefined ? undefined : fromBase64(`${this.#what}: xsave`, xsave, bytes.length);
    this.#get();
    if (this.#hasXcr0() && this.#xcrs.view.getBigUint64(16, true) !== xcr0) {
      this.#xcrs.view.setBigUint64(16, xcr0, true);
      this.#set("KVM_SET_XCRS", this.#xcrs, xcr0);
    }
    if (area !== undefined) bytes.set(area.subarray(FXSAVE_BYTES), FXSAVE_BYTES);
    else view.setBigUint64(XSTATE_BV, XSTATE_FXSAVE, true);
    bytes.set(low.subarray(0, SOFTWARE));
    this.#set("KVM_SET_XSAVE", this.#xsave, view.getBigUint64(XSTATE_BV, true));
  }

  #get(): void {
    ioctlBuffer(
      this.#fd,
      this.#isLarge ? Request.KVM_GET_XSAVE2 : Request.KVM_GET_XSAVE,
      this.#xsave,
      `${this.#what}: its extended state`,
    );
  }

  #hasXcr0(): boolean {
    ioctlBuffer(this.#fd, Request.KVM_GET_XCRS, this.#xcrs, `${this.#what}: KVM_GET_XCRS`);
    return this.#xcrs.view.getUint32(0, true) > 0;
  }

  #set(request: "KVM_SET_XCRS" | "KVM_SET_XSAVE", buffer: RootedBuffer, components: bigint): void {
    try {
      ioctlBuffer(this.#fd, Request[request], buffer, `${this.#what}: ${request}`);
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.errno !== "EINVAL") throw error;
      throw new RestoreError(this.#what, `KVM refuses extended state of ${componentsOf(components)}`, {
        cause: error,
      });
    }
  }
}
