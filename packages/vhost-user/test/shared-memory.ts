import { FakeMemory } from "@northbridge/sdk/testing";

/** The part of WebAssembly that is used here: its types come with the DOM's. */
interface SharedMemoryHost {
  readonly WebAssembly: { readonly Memory: new (pages: object) => { readonly buffer: SharedArrayBuffer } };
}

/** So many pages of 64 KiB of RAM that can be put onto a file. @defaultValue 1 MiB */
export function sharedMemory(pages = 16): FakeMemory {
  const { WebAssembly } = globalThis as unknown as SharedMemoryHost;
  const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return new FakeMemory(new Uint8Array(buffer));
}
