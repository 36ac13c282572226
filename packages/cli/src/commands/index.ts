import { registerDevice } from "../device/register-device.ts";
import { registerGuest } from "../guest/index.ts";
import { registerTrace } from "../trace/register-trace.ts";
import { registerImg } from "../img/register-img.ts";
import { registerNbd } from "../nbd/register-nbd.ts";
import { registerNet } from "../net/register-net.ts";
import { registerDoctor } from "./doctor.ts";
import { registerVhostUser } from "../vhost-user/register-vhost-user.ts";
import type { RegisterCommand } from "./register-command.ts";
import { registerRun } from "./run.ts";
import { registerSchema } from "./schema.ts";
import { registerValidate } from "./validate.ts";

const COMMANDS: readonly RegisterCommand[] = [
  registerRun,
  registerValidate,
  registerSchema,
  registerDoctor,
  registerGuest,
  registerDevice,
  registerTrace,
  registerImg,
  registerVhostUser,
  registerNbd,
  registerNet,
];

export const registerCommands: RegisterCommand = (program, host, exit) => {
  for (const register of COMMANDS) register(program, host, exit);
};
