import { BUTTONS, KEYS } from "./keys.ts";
import { Abs, Ev, IDS, LEDS, MAX_ABS, Rel, Select } from "./spec.ts";

export type InputKind = "keyboard" | "mouse" | "tablet";

interface Capabilities {
  readonly name: string;
  readonly product: number;
  /** By event type: the codes there are. */
  readonly events: ReadonlyMap<number, readonly number[]>;
  /** Axes, from 0 to a largest value. */
  readonly axes: ReadonlyMap<number, number>;
}

const buttons = [...BUTTONS.values()];

const CAPABILITIES: Readonly<Record<InputKind, Capabilities>> = {
  keyboard: {
    name: "Northbridge virtio keyboard",
    product: 1,
    events: new Map([
      [Ev.KEY, [...KEYS.values()]],
      [Ev.LED, LEDS.map((_, index) => index)],
      [Ev.REP, [0, 1]], // the guest repeats keys by itself
    ]),
    axes: new Map(),
  },
  mouse: {
    name: "Northbridge virtio mouse",
    product: 2,
    events: new Map([
      [Ev.KEY, buttons],
      [Ev.REL, [Rel.X, Rel.Y, Rel.WHEEL]],
    ]),
    axes: new Map(),
  },
  tablet: {
    name: "Northbridge virtio tablet",
    product: 3,
    events: new Map([
      [Ev.KEY, buttons],
      [Ev.REL, [Rel.WHEEL]],
      [Ev.ABS, [Abs.X, Abs.Y]],
    ]),
    axes: new Map([
      [Abs.X, MAX_ABS],
      [Abs.Y, MAX_ABS],
    ]),
  },
};

/** What the configuration space shows for a selection: nothing where there is nothing (virtio 1.3 §5.8.5). */
export function describe(kind: InputKind, serial: string, select: number, subsel: number): Uint8Array {
  const { name, product, events, axes } = CAPABILITIES[kind];
  if (select !== Select.EV_BITS && select !== Select.ABS_INFO && subsel !== 0) return NOTHING;
  switch (select) {
    case Select.ID_NAME:
      return ascii(name);
    case Select.ID_SERIAL:
      return ascii(serial);
    case Select.ID_DEVIDS:
      return words16(IDS.BUS_VIRTUAL, IDS.VENDOR, product, IDS.VERSION);
    case Select.EV_BITS:
      return bitmap(events.get(subsel) ?? []);
    case Select.ABS_INFO: {
      const max = axes.get(subsel);
      return max === undefined ? NOTHING : words32(0, max, 0, 0, 0);
    }
    default:
      return NOTHING;
  }
}

/** Whether the kind has events of that type and code. */
export const has = (kind: InputKind, type: number, code: number): boolean =>
  CAPABILITIES[kind].events.get(type)?.includes(code) === true;

const NOTHING = new Uint8Array(0);

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0) & 0x7f);

function bitmap(codes: readonly number[]): Uint8Array {
  if (codes.length === 0) return NOTHING;
  const bytes = new Uint8Array((Math.max(...codes) >> 3) + 1);
  for (const code of codes) bytes[code >> 3] = (bytes[code >> 3] ?? 0) | (1 << (code & 7));
  return bytes;
}

const words16 = (...words: number[]): Uint8Array =>
  Uint8Array.from(words.flatMap((word) => [word & 0xff, word >> 8]));
const words32 = (...words: number[]): Uint8Array =>
  words16(...words.flatMap((word) => [word & 0xffff, word >>> 16]));
