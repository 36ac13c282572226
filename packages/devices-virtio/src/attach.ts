import type { Device, DeviceContext } from "@northbridge/sdk";
import { PciBus } from "@northbridge/sdk/pci";
import { type VirtioDevice, VirtioTransport } from "@northbridge/sdk/virtio";
import * as v from "valibot";
import { VirtioPci } from "./pci/virtio-pci.ts";

/** What every virtio device's config may say of its place. */
export interface PlacementConfig {
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
}

export const placement: { readonly slot: v.GenericSchema<number | undefined> } = {
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
};

/** Puts the device on the machine's PCI bus, or where the host of a lone device wants it. */
export function attach(ctx: DeviceContext, device: VirtioDevice, { slot }: PlacementConfig): Device {
  const transport = ctx.find(VirtioTransport);
  if (transport !== undefined) return transport.attach(ctx, device);
  const pci = new VirtioPci(ctx, device);
  ctx.get(PciBus).attach(pci.function, slot === undefined ? {} : { device: slot });
  return pci;
}
