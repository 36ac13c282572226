import { type ConfigSchema, definePlugin, type DevicePlugin } from "@northbridge/sdk";
import { PciBus, PciFunction } from "@northbridge/sdk/pci";
import * as v from "valibot";
import { topology } from "../pc-1/topology.ts";
import { PciHost } from "./pci-host.ts";
import { BASE, ECAM_BUS, HOST_BRIDGE, Port } from "./spec.ts";

/** Defaults are those of `pc-1`. */
export interface PciHostConfig {
  /** Configuration window: 1 MiB per bus. */
  readonly ecam?: { readonly gpa: number; readonly busCount: number } | undefined;
  /** Where the guest may put memory BARs. */
  readonly mmio32?: { readonly gpa: number; readonly length: number } | undefined;
  /** Where the guest may put memory BARs above 4 GiB. @defaultValue none */
  readonly mmio64?: { readonly gpa: number; readonly length: number } | undefined;
  /** Where the guest may put I/O BARs. */
  readonly io?: { readonly base: number; readonly length: number } | undefined;
  readonly intx?: { readonly gsiBase: number; readonly gsiCount: number } | undefined;
}

interface Parsed extends PciHostConfig {
  readonly ecam: { readonly gpa: number; readonly busCount: number };
  readonly mmio32: { readonly gpa: number; readonly length: number };
  readonly io: { readonly base: number; readonly length: number };
  readonly intx: { readonly gsiBase: number; readonly gsiCount: number };
}

const FOUR_GIB = 2 ** 32;
const PORTS = 0x1_0000;
/** Inputs of the interrupt controllers. */
const GSIS = 24;
const address = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const length = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const window = v.strictObject({ gpa: address, length });

const Config: ConfigSchema<PciHostConfig, Parsed> = v.strictObject({
  ecam: v.optional(
    v.strictObject({
      gpa: address,
      busCount: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(256)),
    }),
    topology.ecam,
  ),
  mmio32: v.optional(
    v.pipe(
      window,
      v.check(({ gpa, length }) => gpa + length <= FOUR_GIB, "expected a window that ends below 4 GiB"),
    ),
    topology.mmio32,
  ),
  mmio64: v.optional(window),
  io: v.optional(
    v.pipe(
      v.strictObject({ base: address, length }),
      v.check(({ base, length }) => base + length <= PORTS, "expected ports up to 0xffff"),
    ),
    topology.io,
  ),
  intx: v.optional(
    v.pipe(
      v.strictObject({ gsiBase: address, gsiCount: length }),
      v.check(({ gsiBase, gsiCount }) => gsiBase + gsiCount <= GSIS, "expected GSIs up to 23"),
    ),
    topology.intx,
  ),
});

/** The PCI root: configuration ports, ECAM, reset control, and the bus that other devices attach to. */
export const pciHost: DevicePlugin<PciHostConfig> = definePlugin({
  name: "@northbridge/devices-legacy/pciHost",
  config: Config,
  provides: [PciBus],
  setup(ctx, { ecam, mmio32, mmio64, io, intx }) {
    const host = new PciHost({ power: ctx.power, intx });
    ctx.mapPorts({ base: BASE, length: Port.COUNT }, host.ports);
    ctx.mapMmio({ name: `${ctx.id}.ecam`, base: ecam.gpa, length: ecam.busCount * ECAM_BUS }, host.ecam);
    host.attach(new PciFunction(ctx, HOST_BRIDGE), { device: 0, function: 0 });
    ctx.provide(PciBus, host);
    ctx.describe({
      kind: "pciRoot",
      ecamGpa: ecam.gpa,
      busCount: ecam.busCount,
      mmio32,
      ...(mmio64 === undefined ? {} : { mmio64 }),
      io,
      intxGsiBase: intx.gsiBase,
      intxGsiCount: intx.gsiCount,
    });
    return host;
  },
});
