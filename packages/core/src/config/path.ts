/** The keys of `devices[2].at`: numbers in brackets are indices, everything else is text. */
export function parsePath(path: string): readonly (string | number)[] {
  const keys: (string | number)[] = [];
  for (const part of path.matchAll(/\[(\d+)\]|([^.[\]]+)/g)) {
    keys.push(part[1] !== undefined ? Number(part[1]) : (part[2] ?? ""));
  }
  return keys;
}
