/// <reference path="./webassembly.d.ts" />
import { NorthbridgeError } from "@northbridge/sdk";
import { RAM } from "./layout.ts";

const WASM_PAGE = 0x1_0000;
/** What 32-bit addresses reach. */
const MAX_WASM_PAGES = 0x1_0000;

/** Most guest RAM that one machine can have, in bytes. */
export const MAX_GUEST_MEMORY: number = MAX_WASM_PAGES * WASM_PAGE - RAM;

/** What the module asks of its host: the `env` imports of `assembly/README.md`. */
export interface CoreImports {
  portIn(port: number, size: number): number;
  portOut(port: number, size: number, value: number): void;
  mmioRead(gpaLow: number, gpaHigh: number, size: number): number;
  mmioWrite(gpaLow: number, gpaHigh: number, size: number, value: number): void;
  acknowledge(): number;
  readTsc(): void;
  readMsr(index: number): number;
  writeMsr(index: number): number;
  cpuid(): void;
  cr8Written(value: number): void;
}

/** The CPU module at work in one memory: what the rest of the backend drives. */
export interface CpuCore {
  readonly memory: SharedArrayBuffer;
  /** The whole memory, for state and guest words. */
  readonly view: DataView;
  /** The same below guest RAM, as words: `words[address >> 2]`. */
  readonly words: Uint32Array;
  resetVcpu(cpu: number): void;
  stateOf(cpu: number): number;
  stateChanged(cpu: number): void;
  slotsChanged(): void;
  run(cpu: number, budget: number): number;
  memoryWritten(address: number, length: number): void;
  setDirtyLog(on: boolean): void;
}

interface CoreExports {
  readonly init: () => void;
  readonly resetVcpu: (cpu: number) => void;
  readonly stateOf: (cpu: number) => number;
  readonly stateChanged: (cpu: number) => void;
  readonly slotsChanged: () => void;
  readonly run: (cpu: number, budget: number) => number;
  readonly memoryWritten: (address: number, length: number) => void;
  readonly setDirtyLog: (on: number) => void;
}

/**
 * Instantiates the CPU with a shared memory for `guestBytes` of RAM, sized once and never grown.
 * Throws `NB_BACKEND` where the host cannot reserve it.
 */
export async function instantiateCore(
  module: WebAssembly.Module,
  guestBytes: number,
  imports: CoreImports,
): Promise<CpuCore> {
  const pages = Math.ceil((RAM + guestBytes) / WASM_PAGE);
  if (pages > MAX_WASM_PAGES) {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `guest memory: the software CPU holds at most ${String(Math.floor(MAX_GUEST_MEMORY / 2 ** 20))} MiB, found ${String(Math.ceil(guestBytes / 2 ** 20))} MiB`,
    );
  }
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new NorthbridgeError(
      "NB_BACKEND",
      `guest memory: the host cannot reserve ${String(pages * 64)} KiB of address space`,
      { cause },
    );
  }
  const abort = (): never => {
    throw new NorthbridgeError("NB_BACKEND", "the software CPU met a state it cannot be in");
  };
  const instance = await WebAssembly.instantiate(module, { env: { memory, abort, ...imports } });
  const core = instance.exports as unknown as CoreExports;
  core.init();
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  return {
    memory: buffer,
    view: new DataView(buffer),
    words: new Uint32Array(buffer, 0, RAM >> 2),
    resetVcpu: core.resetVcpu,
    stateOf: core.stateOf,
    stateChanged: core.stateChanged,
    slotsChanged: core.slotsChanged,
    run: core.run,
    memoryWritten: core.memoryWritten,
    setDirtyLog: (on) => {
      core.setDirtyLog(on ? 1 : 0);
    },
  };
}
