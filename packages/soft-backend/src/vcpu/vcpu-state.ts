import { checkVcpuState, RestoreError, type VcpuState } from "@northbridge/sdk";
import type { CpuCore } from "../cpu/core.ts";
import { readFxsave, writeFxsave } from "../cpu/fxsave.ts";
import * as L from "../cpu/layout.ts";
import { readRegs, readSregs, writeRegs, writeSregs } from "../cpu/registers.ts";
import { SAVED_PAGE_BYTES } from "../lapic/spec.ts";
import { Msr } from "../msr/spec.ts";
import type { SoftProcessor } from "./soft-processor.ts";

/** MSRs that the core keeps in its state block. */
const CORE_MSRS: ReadonlyMap<number, number> = new Map([
  [Msr.IA32_SYSENTER_CS, L.MSR_SYSENTER_CS],
  [Msr.IA32_SYSENTER_ESP, L.MSR_SYSENTER_ESP],
  [Msr.IA32_SYSENTER_EIP, L.MSR_SYSENTER_EIP],
  [Msr.IA32_PAT, L.MSR_PAT],
  [Msr.IA32_STAR, L.MSR_STAR],
  [Msr.IA32_LSTAR, L.MSR_LSTAR],
  [Msr.IA32_CSTAR, L.MSR_CSTAR],
  [Msr.IA32_FMASK, L.MSR_SFMASK],
  [Msr.IA32_KERNEL_GS_BASE, L.MSR_KERNEL_GS_BASE],
  [Msr.IA32_TSC_AUX, L.MSR_TSC_AUX],
]);

/** Values of SHADOW, and DR6.BS (SDM 3B §17.2.3). */
const SHADOW_STI = 1;
const SHADOW_MOV_SS = 2;
const DR6_BS = 0x4000;

const join = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
const low32 = (value: bigint): number => Number(BigInt.asUintN(32, value));
const high32 = (value: bigint): number => Number(BigInt.asUintN(32, value >> 32n));

const toBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

function fromBase64(what: string, text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  if (bytes.length !== length)
    throw new RestoreError(what, `expected ${length} bytes of base64, found ${bytes.length}`);
  return bytes;
}

/** The whole architectural state of a processor between runs. */
export function readVcpuState(core: CpuCore, processor: SoftProcessor): VcpuState {
  processor.service(); // an INIT or start-up IPI already sent has no other place in the state
  const { view } = core;
  const { state, lapic, tsc } = processor;
  const at = (field: number): number => state + field - L.STATE;
  tsc.sample();
  const now = join(tsc.low, tsc.high);
  const debug = (index: number): bigint => view.getBigUint64(at(L.DR) + index * 8, true);
  return {
    version: 1,
    regs: readRegs(view, state),
    sregs: { ...readSregs(view, state), apicBase: join(lapic.baseLow, lapic.baseHigh) },
    fxsave: toBase64(readFxsave(view, state)),
    xcr0: view.getBigUint64(at(L.XCR0), true),
    msrs: [
      [Msr.IA32_TIME_STAMP_COUNTER, now],
      [Msr.IA32_TSC_ADJUST, join(tsc.adjustLow, tsc.adjustHigh)],
      ...processor.msrs.save(),
      ...[...CORE_MSRS].map(([index, field]) => [index, view.getBigUint64(at(field), true)] as const),
      [Msr.IA32_TSC_DEADLINE, join(lapic.tscDeadlineLow, lapic.tscDeadlineHigh)],
    ],
    lapic: toBase64(lapic.save()),
    lapicRemainder: lapic.remainder,
    events: {
      nmiPending: view.getUint32(at(L.NMI_PENDING), true) !== 0,
      nmiMasked: view.getUint32(at(L.NMI_MASKED), true) !== 0,
      interruptShadow: view.getUint32(at(L.SHADOW), true) !== 0,
      movSsShadow: view.getUint32(at(L.SHADOW), true) === SHADOW_MOV_SS,
      pendingDebug:
        view.getUint32(at(L.DEBUG_HITS), true) | (view.getUint32(at(L.STEP_ARMED), true) !== 0 ? DR6_BS : 0),
    },
    debugregs: { db: [debug(0), debug(1), debug(2), debug(3)], dr6: debug(4), dr7: debug(5) },
    mpState: processor.isWaitingForStartUp ? "waitForSipi" : processor.isHalted ? "halted" : "runnable",
    tsc: now,
  };
}

/** Another backend's processor may have stopped halfway through what this one never stops in, or have registers more. */
function expectWhole(what: string, { xsave, events }: VcpuState): void {
  if (xsave !== undefined)
    throw new RestoreError(
      `${what}.xsave`,
      "the software CPU has no registers beyond x87 and SSE (AVX and later)",
    );
  const caught = events.exception ?? events.interrupt;
  if (caught !== undefined)
    throw new RestoreError(
      `${what}.events`,
      `vector ${caught.vector} was being delivered: go on under the backend that saved it, and save again`,
    );
}

/**
 * Loads a state of `readVcpuState`, or of another backend. MSRs that this processor does not have are skipped: they
 * are the other backend's own. Throws `NB_RESTORE`, with nothing loaded, where the state is of another version or shape.
 */
export function writeVcpuState(core: CpuCore, processor: SoftProcessor, saved: VcpuState): void {
  const what = `vCPU ${processor.index}`;
  checkVcpuState(what, saved);
  expectWhole(what, saved);
  const fxsave = fromBase64(`${what}: fxsave`, saved.fxsave, 512);
  const lapicPage = fromBase64(`${what}: lapic`, saved.lapic, SAVED_PAGE_BYTES);
  const { view } = core;
  const { state, lapic, tsc, msrs } = processor;
  const at = (field: number): number => state + field - L.STATE;

  writeRegs(view, state, saved.regs);
  writeSregs(view, state, saved.sregs);
  writeFxsave(view, state, fxsave);
  view.setBigUint64(at(L.XCR0), saved.xcr0, true);
  view.setUint32(at(L.NMI_PENDING), saved.events.nmiPending ? 1 : 0, true);
  view.setUint32(at(L.NMI_MASKED), saved.events.nmiMasked ? 1 : 0, true);
  const { interruptShadow, movSsShadow = false, pendingDebug = 0 } = saved.events;
  view.setUint32(at(L.SHADOW), !interruptShadow ? 0 : movSsShadow ? SHADOW_MOV_SS : SHADOW_STI, true);
  view.setUint32(at(L.DEBUG_HITS), pendingDebug & 0xf, true);
  view.setUint32(at(L.STEP_ARMED), (pendingDebug & DR6_BS) !== 0 ? 1 : 0, true);
  [...saved.debugregs.db, saved.debugregs.dr6, saved.debugregs.dr7].forEach((value, index) => {
    view.setBigUint64(at(L.DR) + index * 8, value, true);
  });

  tsc.set(low32(saved.tsc), high32(saved.tsc));
  lapic.adoptBase(low32(saved.sregs.apicBase), high32(saved.sregs.apicBase));
  lapic.restore(lapicPage, saved.lapicRemainder);
  for (const [index, value] of saved.msrs) {
    const field = CORE_MSRS.get(index);
    if (field !== undefined) view.setBigUint64(at(field), value, true);
    else if (index === Msr.IA32_TSC_ADJUST) tsc.adoptAdjust(low32(value), high32(value));
    else if (index === Msr.IA32_TSC_DEADLINE) lapic.writeTscDeadline(low32(value), high32(value));
    else msrs.adopt(index, value);
  }
  processor.adoptActivity(saved.mpState);
  core.stateChanged(processor.index);
  processor.refreshInterrupt();
}
