import { RestoreError } from "@northbridge/sdk";

/**
 * Throws `RestoreError` for the state of another version than 1.
 * @param what of the device, for the message. @defaultValue the device
 */
export function expectVersion(device: string, version: unknown, what?: string): void {
  if (version === 1) return;
  const found = `version ${String(version)}, expected 1`;
  throw new RestoreError(device, what === undefined ? found : `${what}: ${found}`);
}
