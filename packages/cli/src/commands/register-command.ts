import type { Command } from "commander";
import type { CliHost } from "../host.ts";

/** Adds one command to the program; `exit` sets the exit code where it is not 0. */
export type RegisterCommand = (program: Command, host: CliHost, exit: (code: number) => void) => void;
