import type { Command } from "commander";
import type { CliHost } from "../host.ts";
import { registerDoctor } from "./doctor.ts";
import { registerRun } from "./run.ts";
import { registerSchema } from "./schema.ts";
import { registerValidate } from "./validate.ts";

/** Adds one command to the program; `exit` sets the exit code where it is not 0. */
export type RegisterCommand = (program: Command, host: CliHost, exit: (code: number) => void) => void;

const COMMANDS: readonly RegisterCommand[] = [registerRun, registerValidate, registerSchema, registerDoctor];

export const registerCommands: RegisterCommand = (program, host, exit) => {
  for (const register of COMMANDS) register(program, host, exit);
};
