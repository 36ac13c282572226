import type { RegisterCommand } from "./register-command.ts";

/** Each loaded when it is the one that is called: what `run` does not need would delay its guest. */
const COMMANDS: ReadonlyMap<string, () => Promise<RegisterCommand>> = new Map([
  ["run", async () => (await import("./run.ts")).registerRun],
  ["validate", async () => (await import("./validate.ts")).registerValidate],
  ["schema", async () => (await import("./schema.ts")).registerSchema],
  ["doctor", async () => (await import("./doctor.ts")).registerDoctor],
  ["guest", async () => (await import("../guest/register-guest.ts")).registerGuest],
  ["device", async () => (await import("../device/register-device.ts")).registerDevice],
  ["trace", async () => (await import("../trace/register-trace.ts")).registerTrace],
  ["img", async () => (await import("../img/register-img.ts")).registerImg],
  ["vhost-user", async () => (await import("../vhost-user/register-vhost-user.ts")).registerVhostUser],
  ["nbd", async () => (await import("../nbd/register-nbd.ts")).registerNbd],
  ["net", async () => (await import("../net/register-net.ts")).registerNet],
]);

/** The command that `args` begin with; all of them where they begin with none, for `--help` and for messages. */
export async function commandsFor(args: readonly string[]): Promise<readonly RegisterCommand[]> {
  const called = COMMANDS.get(args.find((arg) => arg !== "--debug") ?? "");
  return await Promise.all((called === undefined ? [...COMMANDS.values()] : [called]).map((load) => load()));
}
