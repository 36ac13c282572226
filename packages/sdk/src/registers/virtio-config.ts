import type { IoWidth } from "@northbridge/core/contracts";
import type { RegisterBehaviour } from "./behaviour.ts";
import type { RegisterSpecs } from "./declaration.ts";
import type { RegisterFile } from "./register-file.ts";
import type { RegisterMap } from "./register-map.ts";

/** A register map as the configuration space of a virtio device (virtio 1.3 §2.5). */
export interface VirtioConfig<R extends RegisterSpecs> {
  /** For `VirtioDevice.config`: what the driver reads. */
  readonly config: Uint8Array;
  /** For `VirtioDevice.writeConfig`. */
  writeConfig(offset: number, width: IoWidth, value: number): void;
  readonly regs: RegisterFile<R>;
  /** Shows what the device changed in `regs.values`; `session.configChanged()` then tells the driver. */
  publish(): void;
}

/**
 * Puts registers where a virtio driver finds its device's configuration. Bytes that a driver reads cannot have side
 * effects there: hooks of reads and `rc` are no use.
 *
 * @example
 * ```ts
 * const { config, writeConfig, regs, publish } = virtioConfig(map);
 * return { deviceId: 42, config, writeConfig, ... };
 * ```
 */
export function virtioConfig<R extends RegisterSpecs>(
  map: RegisterMap<R>,
  behaviour: RegisterBehaviour<R> = {},
): VirtioConfig<R> {
  const regs = map.create(behaviour);
  const config = new Uint8Array(map.layouts.reduce((end, layout) => Math.max(end, endOf(layout)), 0));
  const publish = (): void => {
    for (let offset = 0; offset < config.length; offset++) config[offset] = regs.read(offset, 1);
  };
  publish();
  return {
    config,
    writeConfig(offset, width, value) {
      regs.write(offset, width, value);
      publish();
    },
    regs,
    publish,
  };
}

const endOf = (layout: RegisterMap<RegisterSpecs>["layouts"][number]): number =>
  layout.offset + (layout.count - 1) * layout.stride + layout.width;
