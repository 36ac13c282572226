import { builtInHypervisor } from "./built-in-hypervisor.ts";
import { registryFor } from "./built-in-packages.ts";
import { runCli } from "./cli.ts";
import { surviveBrokenOutput } from "./terminal/broken-output.ts";

const fail = (exitCode: number): void => {
  process.exitCode ||= exitCode;
};
surviveBrokenOutput(process, fail);
const exitCode = await runCli(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  registry: registryFor,
  hypervisor: builtInHypervisor,
});
fail(exitCode);
