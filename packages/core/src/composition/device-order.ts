import type { DevicePluginSpec, Token } from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { tokenName } from "./service-container.ts";

/** A device that is going to be set up. */
export interface PlannedDevice {
  readonly id: string;
  readonly spec: DevicePluginSpec<never, never>;
  /** As the plugin's schema gave it back. */
  readonly config: unknown;
  /** Where the config says so: `devices[2]`, or the machine type for an implied one. */
  readonly where: string;
}

const called = (device: PlannedDevice): string => `device ${device.id} (${device.spec.name})`;

/**
 * Providers before those that require them, otherwise in the order given.
 * Throws `ConfigError` of code `NB_DUPLICATE_TOKEN`, `NB_MISSING_TOKEN` or `NB_CYCLIC_TOKEN`, naming the plugins.
 * @param isProvided what the machine itself provides
 * @param providerOf a plugin that could provide what is missing, for the message
 */
export function inOrderOfServices(
  devices: readonly PlannedDevice[],
  isProvided: (token: Token<unknown>) => boolean,
  providerOf: (token: Token<unknown>) => string | undefined,
): readonly PlannedDevice[] {
  const providers = new Map<Token<unknown>, PlannedDevice>();
  for (const device of devices) {
    for (const token of device.spec.provides ?? []) {
      const other = isProvided(token) ? "the machine" : providers.get(token);
      if (other !== undefined) {
        throw new ConfigError(
          "NB_DUPLICATE_TOKEN",
          device.where,
          `${called(device)} provides "${tokenName(token)}", which ${typeof other === "string" ? other : called(other)} provides already`,
        );
      }
      providers.set(token, device);
    }
  }

  const ordered: PlannedDevice[] = [];
  const visiting: PlannedDevice[] = [];
  const visit = (device: PlannedDevice): void => {
    if (ordered.includes(device)) return;
    const start = visiting.indexOf(device);
    if (start >= 0) {
      const cycle = [...visiting.slice(start), device].map(called).join(" requires ");
      throw new ConfigError(
        "NB_CYCLIC_TOKEN",
        device.where,
        `devices require each other in a circle: ${cycle}`,
      );
    }
    visiting.push(device);
    for (const token of device.spec.requires ?? []) {
      const provider = providers.get(token);
      if (provider !== undefined) visit(provider);
      else if (!isProvided(token)) {
        const known = providerOf(token);
        const hint = known === undefined ? "" : `; ${known} would`;
        throw new ConfigError(
          "NB_MISSING_TOKEN",
          device.where,
          `${called(device)} requires "${tokenName(token)}", which nobody in this machine provides${hint}`,
        );
      }
    }
    visiting.pop();
    ordered.push(device);
  };
  for (const device of devices) visit(device);
  return ordered;
}
