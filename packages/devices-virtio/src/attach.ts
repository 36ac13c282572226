import { type Device, type DeviceContext, NorthbridgeError, type Token, token } from "@northbridge/sdk";
import { PciBus } from "@northbridge/sdk/pci";
import { type VirtioDevice, virtioSpec, VirtioTransport } from "@northbridge/sdk/virtio";
import * as v from "valibot";
import { ACPI_HID, LENGTH } from "./mmio/spec.ts";
import { VirtioMmio } from "./mmio/virtio-mmio.ts";
import { VirtioPci } from "./pci/virtio-pci.ts";

const { Feature } = virtioSpec;

/** Where a device behind a page of registers is. */
export interface MmioPlace {
  readonly gpa: number;
  readonly gsi: number;
}

/** What every virtio device's config may say of its place. */
export interface PlacementConfig {
  /** Device number on the PCI bus, 1–31. @defaultValue the lowest free one */
  readonly slot?: number | undefined;
  /** Registers at an address instead of a PCI function; the guest finds them through ACPI (`LNRO0005`). */
  readonly mmio?: MmioPlace | undefined;
  /** Whether to offer packed rings. @defaultValue false */
  readonly packed?: boolean | undefined;
  /** Whether to offer to use buffers in the order the guest made them available (`IN_ORDER`). @defaultValue false */
  readonly inOrder?: boolean | undefined;
  /**
   * Whether to look like hardware behind the platform's DMA: the guest uses its DMA mappings and the barriers of devices
   * (`ACCESS_PLATFORM`, `ORDER_PLATFORM`). There is no IOMMU here: bus addresses are physical ones. @defaultValue false
   */
  readonly platform?: boolean | undefined;
  /** On PCI: also the interface of drivers older than virtio 1.0. @defaultValue false */
  readonly transitional?: boolean | undefined;
}

const multipleOfLength = v.multipleOf<number, number, v.ErrorMessage<v.MultipleOfIssue<number, number>>>(
  LENGTH,
  ({ input }) => `expected a multiple of 0x${LENGTH.toString(16)}, found 0x${input.toString(16)}`,
);
const address = v.pipe(v.number(), v.safeInteger(), v.minValue(0), multipleOfLength);

/** For the schemas of the devices. */
export const placement: { readonly [K in keyof PlacementConfig]-?: v.GenericSchema<PlacementConfig[K]> } = {
  slot: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(31))),
  mmio: v.optional(
    v.strictObject({ gpa: address, gsi: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(23)) }),
  ),
  packed: v.optional(v.boolean()),
  inOrder: v.optional(v.boolean()),
  platform: v.optional(v.boolean()),
  transitional: v.optional(v.boolean()),
};

/** Puts the device on the machine's PCI bus, at an address, or where the host of a lone device wants it. */
export function attach(ctx: DeviceContext, device: VirtioDevice, place: PlacementConfig): Device {
  const { slot, mmio, packed, inOrder, platform, transitional = false } = place;
  const ringFeatures = [
    ...(packed === true ? [Feature.RING_PACKED] : []),
    ...(inOrder === true ? [Feature.IN_ORDER] : []),
    ...(platform === true ? [Feature.ACCESS_PLATFORM, Feature.ORDER_PLATFORM] : []),
  ];
  const transport = ctx.find(VirtioTransport);
  if (transport !== undefined) return transport.attach(ctx, device);
  if (mmio === undefined) {
    const pci = new VirtioPci(ctx, device, { ringFeatures, transitional });
    ctx.get(PciBus).attach(pci.function, slot === undefined ? {} : { device: slot });
    return pci;
  }
  for (const [option, isGiven] of [
    ["slot", slot !== undefined],
    ["transitional", transitional],
  ] as const) {
    if (isGiven)
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${option}: expected none beside mmio: the device is not on PCI`,
      );
  }
  return attachMmio(ctx, device, mmio, ringFeatures);
}

/** Throws `NB_CONFIG` for `stop` where a device is served to somebody else's machine, which nobody here can pause. */
export function expectMachine(ctx: DeviceContext, onError: string): void {
  if (onError !== "stop" || ctx.find(VirtioTransport) === undefined) return;
  throw new NorthbridgeError("NB_CONFIG", "onError: expected report where no machine runs, found stop");
}

/** Numbers in the names of devices that have been described to the firmware. */
const Named: Token<Set<number>> = token<Set<number>>("virtioMmioNames");

/** What a name of four characters can say of a page of registers, and no other's does. */
function freeName(ctx: DeviceContext, page: number): number {
  const named = ctx.find(Named) ?? new Set<number>();
  if (named.size === 0) ctx.provide(Named, named);
  let number = page % 0x1000;
  while (named.has(number)) number = (number + 1) % 0x1000;
  named.add(number);
  return number;
}

function attachMmio(
  ctx: DeviceContext,
  device: VirtioDevice,
  { gpa, gsi }: MmioPlace,
  ringFeatures: readonly number[],
): Device {
  const registers = new VirtioMmio(ctx, device, { irq: ctx.irq(gsi), ringFeatures });
  ctx.mapMmio({ base: gpa, length: LENGTH }, registers);
  const page = freeName(ctx, Math.floor(gpa / LENGTH));
  ctx.describe({
    kind: "acpiDevice",
    name: `V${page.toString(16).toUpperCase().padStart(3, "0")}`,
    hid: ACPI_HID,
    uid: page,
    mmio: [{ gpa, length: LENGTH }],
    irqs: [{ gsi, level: true, activeLow: false, shared: false }],
  });
  return registers;
}
