export { hostWire, vhostUserWire } from "./host-wire.ts";
export { VhostUserTarget, type VhostUserTargetOptions } from "./vhost-user-target.ts";
