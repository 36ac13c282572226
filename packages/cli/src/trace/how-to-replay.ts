import type { RunOptions } from "../run/run-options.ts";

/**
 * How a person gets a trace of what a device did until it failed, to replay it without its guest: the trace there is, or
 * the command that records the same run. Undefined where no machine config says which run that was.
 * @param failed the device, or a region of its
 * @param ids devices of the machine
 */
export function howToReplay(options: RunOptions, failed: string, ids: readonly string[]): string | undefined {
  const { record, machine } = options;
  const device = ids.find((id) => id === failed) ?? ids.find((id) => failed.startsWith(`${id}.`));
  if (device === undefined) return undefined;
  if (record?.device === device) return `northbridge trace replay ${word(record.file)}`;
  if (machine === undefined) return undefined;
  const { backend, kernel, initrd, append, set, clock, timeout, restore } = options;
  const flags: readonly (readonly [flag: string, value: string | number | undefined])[] = [
    ["device", device],
    ["out", `${device}.trace`],
    ["backend", backend],
    ["kernel", kernel],
    ["initrd", initrd],
    ["append", append],
    ...set.map((each) => ["set", each] as const),
    ["clock", clock],
    ["timeout", timeout],
    ["restore", restore],
  ];
  const given = flags.flatMap(([flag, value]) =>
    value === undefined ? [] : [`--${flag} ${word(String(value))}`],
  );
  return ["northbridge trace record", word(machine), ...given].join(" ");
}

/** As a shell takes it. */
const word = (text: string): string =>
  /^[\w./:=,@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
