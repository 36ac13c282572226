/** The six bytes of a unicast MAC address, or undefined where the text is none. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return undefined;
  const bytes = Uint8Array.from(text.split(/[:-]/), (part) => parseInt(part, 16));
  const isMulticast = ((bytes[0] ?? 0) & 1) !== 0;
  return isMulticast || bytes.every((byte) => byte === 0) ? undefined : bytes;
}

/** A locally administered address that is always the same for one device id (FNV-1a). */
export function defaultMac(id: string): Uint8Array {
  let hash = 0x811c_9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x0100_0193);
  return Uint8Array.of(0x52, 0x54, 0x00, (hash >>> 16) & 0xff, (hash >>> 8) & 0xff, hash & 0xff);
}
