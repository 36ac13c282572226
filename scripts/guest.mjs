/** The Linux guest that the example and its tests boot, and the `northbridge` command that fetches it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { step, StepError } from "./step.mjs";
import { node, root } from "./workspace.mjs";

/** Directory of the example that boots it, relative to the root. */
export const linuxExample = join("examples", "linux-serial");

const guest = join(linuxExample, "guest");

/** For `examples/edu-pci`: a program of the guest's drives the device. */
const modules = ["--module", "uio_pci_generic"];

/** The command and first arguments that run `northbridge`. */
export function northbridge() {
  const cli = join(root, "packages", "cli");
  const { bin } = JSON.parse(readFileSync(join(cli, "package.json"), "utf8"));
  return [node, join(cli, bin.northbridge)];
}

/** Fetches the guest, or makes sure that it is there. @returns why there is none, or nothing */
export async function fetchGuest() {
  const isThere = ["vmlinuz", "initrd.img"].every((file) => existsSync(join(root, guest, file)));
  try {
    const [command, ...args] = northbridge();
    await step("guest", command, [...args, "guest", "linux", "--out", guest, ...modules], { quiet: isThere });
    return undefined;
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    // One that an older version made still boots.
    return isThere ? undefined : error.message;
  }
}
