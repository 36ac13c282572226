import { machineJsonSchema } from "@northbridge/core";
import type { RegisterCommand } from "./register-command.ts";

export const registerSchema: RegisterCommand = (program, host) => {
  program
    .command("schema")
    .description("print the JSON Schema of a machine config")
    .action(async () => {
      const schema = machineJsonSchema(await host.registry());
      host.stdout.write(`${JSON.stringify(schema, undefined, 2)}\n`);
    });
};
