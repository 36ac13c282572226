export * from "./scheduler.ts";
export type { Flow, PolicyRule } from "./user/policy.ts";
export type { DnsOptions, HostPort, PortForward, UserNetOptions } from "./user/options.ts";
export { user, UserNet, type UserNetStats } from "./user/user-net.ts";
