import type {
  BootConfig,
  FirmwareEntry,
  GuestMemory,
  MemoryMapEntry,
  VcpuState,
} from "../contracts/index.ts";

/** What a boot loader has to work with. */
export interface BootRequest {
  readonly boot: BootConfig;
  readonly memory: GuestMemory;
  readonly memoryMap: readonly MemoryMapEntry[];
  readonly firmware: readonly FirmwareEntry[];
  readonly vcpus: number;
  /** The same bytes at every boot of a machine: not to be changed. */
  readFile(path: string): Promise<Uint8Array>;
}

/**
 * Puts kernel, initrd and tables into guest memory and says how vCPU 0 starts. What the answer leaves out is as
 * after reset. Throws `NB_BOOT_IMAGE`.
 */
export type BootLoader = (request: BootRequest) => Promise<Partial<VcpuState>>;
