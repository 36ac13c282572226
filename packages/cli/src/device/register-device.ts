import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileErrorReason } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { registerFuzz } from "./register-fuzz.ts";
import { deviceTemplate } from "./device-template.ts";

const NAME = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

export const registerDevice: RegisterCommand = (program, host) => {
  const device = program.command("device").description("devices of one's own");
  device
    .command("new")
    .description("make a project with a device, its tests and a machine")
    .argument("<NAME>", "of the directory to make; its last part names the device, as in my-device")
    .action(async (directory: string) => {
      const name = basename(directory);
      if (!NAME.test(name)) {
        throw new NorthbridgeError(
          "NB_CONFIG",
          `device new: expected a name of lower-case letters, digits and dashes, found ${name}`,
        );
      }
      try {
        await mkdir(directory);
        for (const [path, content] of Object.entries(deviceTemplate(name))) {
          await writeFile(join(directory, path), content);
        }
      } catch (error) {
        throw new NorthbridgeError(
          "NB_HOST",
          `${directory}: cannot make the project: ${fileErrorReason(error)}`,
          {
            cause: error,
          },
        );
      }
      host.stdout.write(`${directory}: npm install, then npm test\n`);
    });
  registerFuzz(device, host);
};
