import { builtInHypervisor, builtInRegistry } from "./built-in.ts";
import { runCli } from "./cli.ts";

process.exitCode = await runCli(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  registry: builtInRegistry(),
  hypervisor: builtInHypervisor,
});
