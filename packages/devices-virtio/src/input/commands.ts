import { NorthbridgeError } from "@northbridge/sdk";
import { BUTTONS, keyCode, keyOfCharacter } from "./keys.ts";
import { Abs, Ev, MAX_ABS, Rel } from "./spec.ts";
import type { InputKind } from "./capabilities.ts";
import type { InputEvent } from "./input-event.ts";

const SHIFT = keyCode("shift") ?? 0;

/** The device that a person commands. */
interface Commanded {
  readonly kind: InputKind;
  readonly leds: readonly string[];
  report(events: readonly InputEvent[]): boolean;
}

/** Carries out what a person asks of an input device at the monitor. Throws `NB_CONFIG` where it is nothing. */
export function carryOut(device: Commanded, words: readonly string[]): string {
  const [verb, ...rest] = words;
  switch (verb) {
    case "press":
    case "release":
      return done(device.report(codes(device, rest).map((code) => key(code, verb === "press"))));
    case "tap": {
      const all = codes(device, rest);
      const isPressed = device.report(all.map((code) => key(code, true)));
      return done(device.report(all.toReversed().map((code) => key(code, false))) && isPressed);
    }
    case "type":
      return done(type(device, rest.join(" ")));
    case "move":
      return moved(device, "mouse", Ev.REL, [Rel.X, Rel.Y], rest);
    case "at":
      return moved(device, "tablet", Ev.ABS, [Abs.X, Abs.Y], rest);
    case "wheel":
      return done(device.report([[Ev.REL, Rel.WHEEL, number(rest[0])]]));
    case "leds":
      return device.leds.join(" ");
    default:
      throw new NorthbridgeError(
        "NB_CONFIG",
        `expected press, release or tap KEY..., type TEXT, move DX DY, at X Y, wheel N or leds, found ${words.join(" ")}`,
      );
  }
}

const key = (code: number, isPressed: boolean): InputEvent => [Ev.KEY, code, isPressed ? 1 : 0];

const done = (isTaken: boolean): string => (isTaken ? "done" : "lost: the guest takes no input");

function codes(device: Commanded, names: readonly string[]): number[] {
  // `ctrl-alt-delete` is three keys.
  const all = names.flatMap((name) => name.split("-")).filter((name) => name !== "");
  return all.map((name) => {
    const code = device.kind === "keyboard" ? keyCode(name) : BUTTONS.get(name);
    if (code !== undefined) return code;
    throw new NorthbridgeError(
      "NB_CONFIG",
      `expected a key or a button of a ${device.kind}, found "${name}"`,
    );
  });
}

/** Types characters of a US keyboard. */
function type(device: Commanded, text: string): boolean {
  const keys = Array.from(text, (character) => {
    const found = keyOfCharacter(character);
    if (found !== undefined) return found;
    throw new NorthbridgeError("NB_CONFIG", `expected characters of a US keyboard, found "${character}"`);
  });
  return keys.every(({ code, shift }) => {
    const [before, after] = shift ? [[key(SHIFT, true)], [key(SHIFT, false)]] : [[], []];
    return device.report([...before, key(code, true)]) && device.report([key(code, false), ...after]);
  });
}

function moved(
  device: Commanded,
  kind: string,
  eventType: number,
  axes: readonly number[],
  words: readonly string[],
): string {
  if (device.kind !== kind) {
    throw new NorthbridgeError("NB_CONFIG", `expected this of a ${kind}, found a ${device.kind}`);
  }
  const events = axes.map((axis, index): InputEvent => [eventType, axis, number(words[index])]);
  if (eventType === Ev.ABS && events.some(([, , value]) => value < 0 || value > MAX_ABS)) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `expected coordinates of 0 to ${MAX_ABS}, found ${words.join(" ")}`,
    );
  }
  return done(device.report(events));
}

function number(word: string | undefined): number {
  const value = Number(word);
  if (word !== undefined && Number.isInteger(value) && Math.abs(value) <= 0x7fff_ffff) return value;
  throw new NorthbridgeError("NB_CONFIG", `expected a whole number, found ${word ?? "nothing"}`);
}
