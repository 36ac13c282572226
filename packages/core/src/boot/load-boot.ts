import type {
  BootConfig,
  FirmwareEntry,
  GuestMemory,
  MemoryMapEntry,
  VcpuState,
} from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { buildAcpiTables } from "../firmware/index.ts";
import { loadFlat } from "./flat.ts";
import { bootImageError } from "./image-error.ts";
import { loadLinux } from "./linux.ts";
import { ACPI_TABLES_END, ACPI_TABLES_GPA } from "./low-memory.ts";
import { powerOnState } from "./start-state.ts";

export interface BootOptions {
  readonly boot: BootConfig;
  readonly memory: GuestMemory;
  readonly memoryMap: readonly MemoryMapEntry[];
  /** Reads a file of the host, by the path that the config gives. */
  readonly readFile: (path: string) => Promise<Uint8Array>;
  /** What devices said of themselves. Without any entry no firmware tables are written. */
  readonly firmware: readonly FirmwareEntry[];
  readonly vcpus: number;
}

/**
 * Puts what the config boots into guest memory, with firmware tables, and answers with the state in which vCPU 0
 * starts: the power-on state where nothing is to be loaded. Throws `NB_BOOT_IMAGE`, naming file, expected and found.
 */
export async function loadBoot(options: BootOptions): Promise<VcpuState> {
  const { boot, memory, memoryMap, firmware } = options;
  if (boot.flat !== undefined && boot.kernel !== undefined) {
    throw new NorthbridgeError("NB_CONFIG", "boot: expected either kernel or flat, found both");
  }
  if (boot.initrd !== undefined && boot.kernel === undefined) {
    throw new NorthbridgeError("NB_CONFIG", "boot.initrd: expected a boot.kernel with it, found none");
  }
  const rsdpGpa = firmware.length > 0 ? writeAcpiTables(options) : undefined;

  if (boot.flat !== undefined) {
    return loadFlat(memory, memoryMap, boot.flat, await readImage(options, boot.flat.image, "a flat image"));
  }
  if (boot.kernel === undefined) return powerOnState(0);
  const [kernel, initrd] = await Promise.all([
    readImage(options, boot.kernel, "a kernel"),
    boot.initrd === undefined ? undefined : readImage(options, boot.initrd, "an initrd"),
  ]);
  return loadLinux(
    {
      kernel: { file: boot.kernel, bytes: kernel },
      initrd: boot.initrd !== undefined && initrd ? { file: boot.initrd, bytes: initrd } : undefined,
    },
    { memory, memoryMap, firmware, rsdpGpa, cmdline: boot.cmdline, protocol: boot.protocol },
  );
}

function writeAcpiTables({ memory, firmware, vcpus }: BootOptions): number {
  const { bytes, rsdpGpa } = buildAcpiTables({ firmware, vcpus, gpa: ACPI_TABLES_GPA });
  if (bytes.length > ACPI_TABLES_END - ACPI_TABLES_GPA || !memory.write(ACPI_TABLES_GPA, bytes)) {
    throw new NorthbridgeError(
      "NB_MEMORY",
      `firmware tables: expected room for ${bytes.length} bytes at 0x${ACPI_TABLES_GPA.toString(16)}, found less`,
    );
  }
  return rsdpGpa;
}

async function readImage(options: BootOptions, path: string, expected: string): Promise<Uint8Array> {
  try {
    return await options.readFile(path);
  } catch (cause) {
    if (cause instanceof NorthbridgeError) throw cause;
    throw bootImageError(path, expected, describeReadFailure(cause), { cause });
  }
}

function describeReadFailure(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "ENOENT") return "no such file";
  if (code === "EISDIR") return "a directory";
  if (code === "EACCES") return "a file that may not be read";
  return cause instanceof Error ? cause.message : String(cause);
}
