import type { VcpuState } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { buildAcpiTables } from "../firmware/index.ts";
import type { BootRequest } from "../machine/boot-loader.ts";
import { loadFlat } from "./flat.ts";
import { loadLinux } from "./linux.ts";
import { ACPI_TABLES_END, ACPI_TABLES_GPA } from "./low-memory.ts";

/**
 * Puts what the config boots into guest memory, with firmware tables where devices described themselves, and
 * answers with how vCPU 0 starts: as after reset where nothing is to be loaded. Throws `NB_BOOT_IMAGE`, naming file,
 * expected and found. A {@link BootLoader}.
 */
export async function loadBoot(request: BootRequest): Promise<Partial<VcpuState>> {
  const { boot, memory, memoryMap, firmware } = request;
  if (boot.flat !== undefined && boot.kernel !== undefined) {
    throw new ConfigError("NB_CONFIG", "boot", "expected either kernel or flat, found both");
  }
  if (boot.initrd !== undefined && boot.kernel === undefined) {
    throw new ConfigError("NB_CONFIG", "boot.initrd", "expected a boot.kernel with it, found none");
  }
  const rsdpGpa = firmware.length > 0 ? writeAcpiTables(request) : undefined;

  if (boot.flat !== undefined) {
    return loadFlat(memory, memoryMap, boot.flat, await request.readFile(boot.flat.image));
  }
  if (boot.kernel === undefined) return {};
  const [kernel, initrd] = await Promise.all([
    request.readFile(boot.kernel),
    boot.initrd === undefined ? undefined : request.readFile(boot.initrd),
  ]);
  return loadLinux(
    {
      kernel: { file: boot.kernel, bytes: kernel },
      initrd: boot.initrd !== undefined && initrd ? { file: boot.initrd, bytes: initrd } : undefined,
    },
    { memory, memoryMap, firmware, rsdpGpa, cmdline: boot.cmdline, protocol: boot.protocol },
  );
}

function writeAcpiTables({ memory, firmware, vcpus }: BootRequest): number {
  const { bytes, rsdpGpa } = buildAcpiTables({ firmware, vcpus, gpa: ACPI_TABLES_GPA });
  if (bytes.length > ACPI_TABLES_END - ACPI_TABLES_GPA || !memory.write(ACPI_TABLES_GPA, bytes)) {
    throw new NorthbridgeError(
      "NB_MEMORY",
      `firmware tables: expected room for ${bytes.length} bytes at 0x${ACPI_TABLES_GPA.toString(16)}, found less`,
    );
  }
  return rsdpGpa;
}
