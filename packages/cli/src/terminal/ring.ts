import { type Machine, RingBufferBackend } from "@northbridge/core";

/** The monitor's `ring read END` and `ring write END TEXT`: what a guest wrote to a character end of kind `ring`. */
export function ring(machine: Machine, rest: string): string {
  const [, verb, name, text] = /^(\S*)\s*(\S*)\s*(.*)$/.exec(rest) ?? [];
  const rings = machine.hostEnds.flatMap(({ device, option, backend }) =>
    backend instanceof RingBufferBackend ? [{ name: `${device}.${option}`, backend }] : [],
  );
  const found = rings.find((end) => end.name === name);
  if (found === undefined) {
    const names = rings.map((end) => end.name).join(", ") || "none here";
    return `error: expected a character end of kind ring (${names}), found ${name === "" ? "nothing" : name}`;
  }
  if (verb === "read" && text === "") return found.backend.text();
  if (verb !== "write" || text === undefined)
    return `error: expected ring read END or ring write END TEXT, found ring ${rest}`;
  found.backend.send(`${text}\n`);
  return "written";
}
