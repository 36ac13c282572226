import type { PluginRegistry } from "@northbridge/core";
import * as devicesLegacy from "@northbridge/devices-legacy";
import * as devicesVirtio from "@northbridge/devices-virtio";
import * as netTap from "@northbridge/net-tap";
import * as storageQcow2 from "@northbridge/storage-qcow2";
import * as hostEnds from "./host-ends.ts";
import { registryOf } from "./registry-of.ts";
import * as frontEnds from "./vhost-user/front-end-plugins.ts";
import * as netFrontEnd from "./vhost-user/net-front-end.ts";
import * as kernelNet from "./vhost-user/vhost-net.ts";

/** The plugins, machine types and host ends that come with the command: whatever these packages export. */
export const builtInRegistry = (): PluginRegistry =>
  registryOf([
    devicesLegacy,
    devicesVirtio,
    netTap,
    storageQcow2,
    hostEnds,
    frontEnds,
    netFrontEnd,
    kernelNet,
  ]);
