export { VhostUserTarget, type VhostUserTargetOptions } from "./vhost-user-target.ts";
