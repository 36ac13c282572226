import { defineMachineType, type DeviceEntry, type MachineConfig, type MachineType } from "@northbridge/sdk";
import { acpiPm } from "../acpi-pm/plugin.ts";
import { i8042 } from "../i8042/plugin.ts";
import { pit } from "../i8254/plugin.ts";
import { pciHost } from "../pci-host/plugin.ts";
import { pvpanic } from "../pvpanic/plugin.ts";
import { rtc } from "../rtc/plugin.ts";
import { serial } from "../uart16550/plugin.ts";
import { pc1Board } from "./board.ts";
import { topology } from "./topology.ts";

/**
 * The first PC: a PC AT's timer, clock, keyboard controller and serial port with ACPI power management and a PCI
 * root. Addresses and interrupts are in `topology` and never change; a golden test holds them.
 */
export const pc1: MachineType = defineMachineType({
  name: "pc-1",
  layout: "pc",
  devices: (config) => [
    pc1Board({}, { id: "board" }),
    pit({}, { id: "pit" }),
    rtc({}, { id: "rtc" }),
    i8042({}, { id: "i8042" }),
    acpiPm({ base: topology.pm.base, sciGsi: topology.pm.sciGsi }, { id: "acpiPm" }),
    pciHost(
      { ecam: topology.ecam, mmio32: topology.mmio32, io: topology.io, intx: topology.intx },
      { id: "pci" },
    ),
    pvpanic({}, { id: "pvpanic" }),
    ...(hasOwnCom1(config) ? [] : [serial({ at: "com1" }, { id: "com1" })]),
  ],
});

type Listed = NonNullable<MachineConfig["devices"]>[number];

/** Whether the config lists a serial port at com1, under whatever id. */
function hasOwnCom1(config: MachineConfig): boolean {
  return (config.devices ?? []).some((listed) => isCom1(listed));
}

function isCom1(listed: Listed): boolean {
  if (listed === false || listed === undefined || listed === null) return false;
  const [name, input] = isEntry(listed) ? [listed.spec.name, listed.input] : [listed.plugin, listed];
  const isSerial = name === serial.pluginName || serial.pluginName.endsWith(`/${name}`);
  return isSerial && ((input as { readonly at?: unknown } | undefined)?.at ?? "com1") === "com1";
}

function isEntry(listed: NonNullable<Exclude<Listed, false>>): listed is DeviceEntry {
  return "spec" in listed;
}
