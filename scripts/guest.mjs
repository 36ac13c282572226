/** The Linux guest that the example and its tests boot, and the `northbridge` command that fetches it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { step, StepError } from "./step.mjs";
import { node, root } from "./workspace.mjs";

/** Directory of the example that boots it, relative to the root. */
export const linuxExample = join("examples", "linux-serial");

const guest = join(linuxExample, "guest");

/** The command and first arguments that run `northbridge`. */
export function northbridge() {
  const cli = join(root, "packages", "cli");
  const { bin } = JSON.parse(readFileSync(join(cli, "package.json"), "utf8"));
  if (bin === undefined) throw new StepError("packages/cli has no command yet");
  return [node, join(cli, bin.northbridge)];
}

/** Fetches the guest if it is not there yet. @returns why there is none, or nothing */
export async function fetchGuest() {
  if (["vmlinuz", "initrd.img"].every((file) => existsSync(join(root, guest, file)))) return undefined;
  try {
    const [command, ...args] = northbridge();
    await step("guest", command, [...args, "guest", "linux", "--out", guest]);
    return undefined;
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    return error.message;
  }
}
