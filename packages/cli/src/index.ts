export { builtInHypervisor, builtInRegistry } from "./built-in.ts";
export { runCli } from "./cli.ts";
export { ExitCode } from "./exit-codes.ts";
export type { CliHost } from "./host.ts";
export * from "./guest/index.ts";
