/** Codes of keys and buttons by name (Linux input-event-codes.h): what a keyboard of 105 keys has. */
const ROWS: readonly (readonly [first: number, names: string])[] = [
  [1, "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab"],
  [16, "q w e r t y u i o p leftbrace rightbrace enter leftctrl"],
  [30, "a s d f g h j k l semicolon apostrophe grave leftshift backslash"],
  [44, "z x c v b n m comma dot slash rightshift kpasterisk leftalt space capslock"],
  [59, "f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 numlock scrolllock"],
  [71, "kp7 kp8 kp9 kpminus kp4 kp5 kp6 kpplus kp1 kp2 kp3 kp0 kpdot"],
  [86, "102nd f11 f12"],
  [96, "kpenter rightctrl kpslash sysrq rightalt"],
  [102, "home up pageup left right end down pagedown insert delete"],
  [113, "mute volumedown volumeup power"],
  [119, "pause"],
  [125, "leftmeta rightmeta compose"],
];

/** As people call them. */
const ALIASES: readonly (readonly [alias: string, name: string])[] = [
  ["ctrl", "leftctrl"],
  ["shift", "leftshift"],
  ["alt", "leftalt"],
  ["altgr", "rightalt"],
  ["meta", "leftmeta"],
  ["ret", "enter"],
  ["print", "sysrq"],
];

export const KEYS: ReadonlyMap<string, number> = new Map(
  ROWS.flatMap(([first, names]) => names.split(" ").map((name, index) => [name, first + index] as const)),
);

export const BUTTONS: ReadonlyMap<string, number> = new Map([
  ["left", 0x110],
  ["right", 0x111],
  ["middle", 0x112],
]);

const ALIAS: ReadonlyMap<string, string> = new Map(ALIASES);

/** The code of a key by its name or alias, in any case. */
export function keyCode(name: string): number | undefined {
  const lower = name.toLowerCase();
  return KEYS.get(ALIAS.get(lower) ?? lower);
}

/** Keys to press for characters of a US keyboard: names, and whether with shift. */
const PLAIN =
  "`grave -minus =equal [leftbrace ]rightbrace \\backslash ;semicolon 'apostrophe ,comma .dot /slash";
const SHIFTED = "~` !1 @2 #3 $4 %5 ^6 &7 *8 (9 )0 _- += {[ }] |\\ :; \"' <, >. ?/";

const CHARACTERS: ReadonlyMap<string, string> = new Map([
  [" ", "space"],
  ["\n", "enter"],
  ["\t", "tab"],
  ...PLAIN.split(" ").map((entry) => [entry[0] ?? "", entry.slice(1)] as const),
]);
const SHIFT_OF: ReadonlyMap<string, string> = new Map(
  SHIFTED.split(" ").map((entry) => [entry[0] ?? "", entry[1] ?? ""] as const),
);

/** The key that types a character on a US keyboard, or undefined where there is none. */
export function keyOfCharacter(
  character: string,
): { readonly code: number; readonly shift: boolean } | undefined {
  const base = SHIFT_OF.get(character) ?? character.toLowerCase();
  const code = KEYS.get(CHARACTERS.get(base) ?? base);
  const isSingle = character.length === 1;
  return code === undefined || !isSingle ? undefined : { code, shift: base !== character };
}
