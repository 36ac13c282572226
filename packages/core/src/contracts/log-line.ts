import type { ByteSink } from "./host.ts";

/**
 * Writes a line that a person should read to the machine's log: `disk0: message`, in UTF-8 (RFC 3629 §3). Never on the
 * path of an access.
 */
export function logLine(log: ByteSink | undefined, device: string, message: string): void {
  if (log === undefined) return;
  for (const character of `${device}: ${message}\n`.toWellFormed()) {
    const code = character.codePointAt(0) ?? 0;
    if (code < 0x80) log.write(code);
    else writeLong(log, code);
  }
  log.flush?.();
}

/** A first byte that says how many follow, and six bits in each of these. */
function writeLong(log: ByteSink, code: number): void {
  const following = code < 0x800 ? 1 : code < 0x1_0000 ? 2 : 3;
  log.write(((0xf00 >> (following + 1)) & 0xff) | (code >> (6 * following)));
  for (let shift = 6 * (following - 1); shift >= 0; shift -= 6) log.write(0x80 | ((code >> shift) & 0x3f));
}
