import type { Machine, OpenedHostEnd } from "@northbridge/core";

const MIB = 2 ** 20;

/** The monitor's `info WHAT`: a line for each device or host end, with what it has counted so far. */
export function info(machine: Machine, what: string): string {
  switch (what) {
    case "devices": {
      const { devices } = machine.stats();
      return table(machine.devices.map(({ id, plugin }) => [id, plugin, counters(devices[id] ?? {})]));
    }
    case "block":
    case "char":
    case "directory":
    case "net":
    case "vsock": {
      const ends = machine.hostEnds.filter(({ sort }) => sort === what);
      return table(
        ends.map((end) => [`${end.device}.${end.option}`, end.kind, details(end), counters(end.stats())]),
      );
    }
    default:
      return `error: expected info devices, block, char, directory, net or vsock, found ${what}`;
  }
}

function details(end: OpenedHostEnd): string {
  switch (end.sort) {
    case "block": {
      const { size, readOnly, location } = end.backend;
      const where = location === undefined ? "" : `, ${location}`;
      return `${size / MIB} MiB${readOnly ? ", read-only" : ""}${where}`;
    }
    case "net":
      return `MTU ${end.backend.mtu}`;
    case "char":
    case "directory":
    case "vsock":
      return "";
  }
}

const counters = (values: Readonly<Record<string, number>>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ");

function table(rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "none";
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
