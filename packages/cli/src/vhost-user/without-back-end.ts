import type { MachineOptions } from "@northbridge/core";
import type { Device, DeviceContext } from "@northbridge/sdk";

/** Plugins that reach somebody else's back end, or the kernel's, as they are set up. */
const FRONT_ENDS: ReadonlySet<string> = new Set([
  "@northbridge/cli/vhostUserBlk",
  "@northbridge/cli/vhostUserFs",
  "@northbridge/cli/vhostUserNet",
  "@northbridge/cli/vhostNet",
]);

/** For `tryMachine`: back ends must not notice, so their devices are there without them. */
export const withoutBackEnd: NonNullable<MachineOptions["adapt"]> = (spec) =>
  FRONT_ENDS.has(spec.name) ? { ...spec, setup: setUpIdle } : spec;

async function setUpIdle(
  ctx: DeviceContext,
  { slot }: { readonly slot?: number | undefined },
): Promise<Device> {
  const { attachVirtio, VirtioRng } = await import("@northbridge/devices-virtio");
  return attachVirtio(ctx, new VirtioRng({ entropy: { fill: () => undefined } }), { slot });
}
