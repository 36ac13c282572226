/**
 * What of a state JSON does not hold, if anything, with its path: `state.timers[1] is a Map`. An absent property is as
 * good as one that is `undefined`.
 */
export function whatJsonDrops(state: unknown): string | undefined {
  return dropped(state, "state", []);
}

function dropped(value: unknown, path: string, above: readonly object[]): string | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return undefined;
    case "number":
      return Number.isFinite(value) ? undefined : `${path} is ${value}`;
    case "object":
      return value === null ? undefined : droppedOf(value, path, above);
    default:
      return `${path} is a ${typeof value}`;
  }
}

function droppedOf(value: object, path: string, above: readonly object[]): string | undefined {
  if (above.includes(value)) return `${path} holds itself`;
  const inside = [...above, value];
  if (Array.isArray(value)) {
    for (const [index, item] of (value as readonly unknown[]).entries()) {
      const at = `${path}[${index}]`;
      const found = item === undefined ? `${at} is undefined` : dropped(item, at, inside);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) return `${path} is ${nameOf(value)}`;
  for (const [key, item] of Object.entries(value)) {
    const found = dropped(item, `${path}.${key}`, inside);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** `a Map`, `a Uint8Array`, `a Promise`. */
function nameOf(value: object): string {
  const { constructor } = value;
  return typeof constructor === "function" && constructor.name !== ""
    ? `a ${constructor.name}`
    : "no plain object";
}
