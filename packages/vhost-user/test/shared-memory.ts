import { FakeMemory } from "@northbridge/sdk/testing";

/** The part of WebAssembly that is used here: its types come with the DOM's. */
interface SharedMemoryHost {
  readonly WebAssembly: { readonly Memory: new (pages: object) => { readonly buffer: SharedArrayBuffer } };
}

/** 1 MiB of RAM that can be put onto a file. */
export function sharedMemory(): FakeMemory {
  const { WebAssembly } = globalThis as unknown as SharedMemoryHost;
  const { buffer } = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  return new FakeMemory(new Uint8Array(buffer));
}
