import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import * as v from "valibot";
import { attach, placement, type PlacementConfig } from "../attach.ts";
import type { InputKind } from "./capabilities.ts";
import { VirtioInput } from "./virtio-input.ts";

export interface VirtioInputConfig extends PlacementConfig {
  readonly kind: InputKind;
}

const Config: ConfigSchema<VirtioInputConfig, VirtioInputConfig> = v.strictObject({
  ...placement,
  kind: v.picklist(["keyboard", "mouse", "tablet"]),
});

/** A virtio keyboard, mouse or tablet; the monitor's `device ID` types and moves. */
export const virtioInput: DevicePlugin<VirtioInputConfig> = definePlugin({
  name: "@northbridge/devices-virtio/virtioInput",
  config: Config,
  setup: (ctx, { kind, ...place }) => attach(ctx, new VirtioInput({ kind, serial: ctx.id }), place),
});
