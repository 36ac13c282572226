export { builtInHypervisor } from "./built-in-hypervisor.ts";
export { registryFor } from "./built-in-packages.ts";
export { builtInRegistry } from "./built-in-registry.ts";
export { runCli } from "./cli.ts";
export { ExitCode } from "./exit-codes.ts";
export type { CliHost } from "./host.ts";
export * from "./guest/index.ts";
