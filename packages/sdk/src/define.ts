import type {
  DeviceEntry,
  DevicePlugin,
  DevicePluginSpec,
  HostEndKind,
  HostEndSort,
  MachineConfig,
  MachineType,
} from "@northbridge/core/contracts";

/**
 * Makes a plugin of its description: a function that, called with the device's config, gives an entry for a
 * machine's `devices`. The config is checked when the machine is made, not here.
 */
export function definePlugin<In, Out>(spec: DevicePluginSpec<In, Out>): DevicePlugin<In> {
  const erased = spec as unknown as DevicePluginSpec<never, never>;
  const make = (input?: In, options?: { readonly id?: string }): DeviceEntry => ({
    spec: erased,
    input: input ?? {},
    id: options?.id,
  });
  return Object.assign(make, { pluginName: spec.name, spec: erased });
}

/** The identity, with types: `export default defineMachine({ … })`. */
export function defineMachine(config: MachineConfig): MachineConfig {
  return config;
}

/** The identity, with types, for the implied devices of a versioned machine type. */
export function defineMachineType(type: MachineType): MachineType {
  return type;
}

/**
 * The identity, with types, for a kind of host end: `export const nbd = defineHostEnd({ kind: "nbd", of: "block", … })`
 * gives configs `{ kind: nbd, … }` wherever a device takes a block back end.
 */
export function defineHostEnd<Sort extends HostEndSort, In, Out>(
  kind: HostEndKind<Sort, In, Out>,
): HostEndKind<Sort, In, Out> {
  return kind;
}
