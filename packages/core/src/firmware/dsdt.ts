import type { AcpiDevice, FirmwareEntry } from "../contracts/index.ts";
import type { Aml } from "./aml.ts";
import { device, hardwareId, integer, name, packageOf, scope, string } from "./aml.ts";
import {
  busNumberWindow,
  interrupt,
  memory,
  memoryWindow,
  portWindow,
  ports,
  resourceTemplate,
} from "./resources.ts";

type PciRoot = Extract<FirmwareEntry, { kind: "pciRoot" }>;

const PCI_DEVICES = 32;
const PCI_PINS = 4;
/** Configuration mechanism 1 (PCI 3.0 §3.2.2.3.2). */
const CONFIG_ADDRESS_PORT = 0xcf8;
const CONFIG_PORTS = 8;
const ECAM_BYTES_PER_BUS = 2 ** 20;

/** Definition block: processors, PCI roots and devices under `\_SB_`, and `\_S5_`. */
export function dsdtTerms(firmware: readonly FirmwareEntry[], vcpus: number): Aml {
  const pciRoots = firmware.filter((entry) => entry.kind === "pciRoot");
  const devices = firmware.filter((entry) => entry.kind === "acpiDevice");
  const systemBus = scope("\\_SB", [
    ...Array.from({ length: vcpus }, (_, index) => processor(index)),
    ...pciRoots.flatMap((root, index) => [pciRoot(root, index), ecamReservation(root, index)]),
    ...devices.map(describedDevice),
  ]);
  const pm = firmware.find((entry) => entry.kind === "acpiPm");
  return pm === undefined ? systemBus : [...systemBus, ...softOff(pm.s5SleepType)];
}

/** §8.4: processor devices match the MADT by `_UID`. */
function processor(index: number): Aml {
  const id = index.toString(16).toUpperCase().padStart(3, "0");
  return device(`C${id}`, [name("_HID", string("ACPI0007")), name("_UID", integer(index))]);
}

/** §7.4.2.6: SLP_TYPa and SLP_TYPb of the soft-off state. */
function softOff(sleepType: number): Aml {
  return name("\\_S5", packageOf([integer(sleepType), integer(sleepType), integer(0), integer(0)]));
}

function describedDevice(entry: AcpiDevice): Aml {
  const resources = [
    ...(entry.ports ?? []).map(({ base, length }) => ports(base, length)),
    ...(entry.mmio ?? []).map(({ gpa, length }) => memory(gpa, length)),
    ...(entry.irqs ?? []).map(interrupt),
  ];
  return device(entry.name, [
    name("_HID", hardwareId(entry.hid)),
    name("_UID", integer(entry.uid)),
    ...(resources.length > 0 ? [name("_CRS", resourceTemplate(resources))] : []),
  ]);
}

/** A PCI Express root (PCI Firmware 3.3 §4) that is also a PCI one, for systems that know only that. */
function pciRoot(root: PciRoot, index: number): Aml {
  const { mmio32, mmio64, io } = root;
  return device(`PCI${index}`, [
    name("_HID", hardwareId("PNP0A08")),
    name("_CID", hardwareId("PNP0A03")),
    name("_UID", integer(index)),
    name("_SEG", integer(index)),
    name("_BBN", integer(0)),
    name(
      "_CRS",
      resourceTemplate([
        busNumberWindow(0, root.busCount),
        ...(index === 0 ? [ports(CONFIG_ADDRESS_PORT, CONFIG_PORTS)] : []),
        portWindow(io.base, io.length),
        memoryWindow(mmio32.gpa, mmio32.length),
        ...(mmio64 === undefined ? [] : [memoryWindow(mmio64.gpa, mmio64.length)]),
      ]),
    ),
    name("_PRT", interruptRouting(root)),
  ]);
}

/** §6.2.13: `{ device << 16 | any function, pin, hard-wired, GSI }` for every pin. */
function interruptRouting({ intxGsiBase, intxGsiCount }: PciRoot): Aml {
  const ANY_FUNCTION = 0xffff;
  const routes: Aml[] = [];
  for (let slot = 0; slot < PCI_DEVICES; slot++) {
    for (let pin = 0; pin < PCI_PINS; pin++) {
      const gsi = intxGsiBase + ((slot + pin) % intxGsiCount);
      const address = slot * 0x1_0000 + ANY_FUNCTION;
      routes.push(packageOf([integer(address), integer(pin), integer(0), integer(gsi)]));
    }
  }
  return packageOf(routes);
}

/** PCI Firmware 3.3 §4.1.2: a motherboard resource holds the configuration space, or Linux does not trust the MCFG. */
function ecamReservation(root: PciRoot, index: number): Aml {
  return device(`ECM${index}`, [
    name("_HID", hardwareId("PNP0C02")),
    name("_UID", integer(index)),
    name("_CRS", resourceTemplate([memory(root.ecamGpa, root.busCount * ECAM_BYTES_PER_BUS)])),
  ]);
}
