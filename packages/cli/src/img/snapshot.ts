import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, asQcow2, usingImage, withAccess } from "./image-access.ts";
import { snapshotLines } from "./snapshot-lines.ts";

interface SnapshotOptions extends AccessOptions {
  readonly l?: boolean;
  readonly c?: string;
  readonly a?: string;
  readonly d?: string;
}

export const registerSnapshot: RegisterCommand = (img, host) => {
  withAccess(img.command("snapshot"))
    .description("list, make, go back to or delete internal snapshots")
    .argument("<FILE>")
    .option("-l", "list them; the default")
    .option("-c <NAME>", "make one")
    .option("-a <SNAPSHOT>", "go back to one; what the disk is now is lost")
    .option("-d <SNAPSHOT>", "delete one")
    .action((path: string, options: SnapshotOptions) => {
      const chosen = [options.l, options.c, options.a, options.d].filter((option) => option !== undefined);
      if (chosen.length > 1) throw new CommandFailed(1, "Cannot mix '-l', '-a', '-c', '-d'");
      const changes = options.c !== undefined || options.a !== undefined || options.d !== undefined;
      return usingImage(path, options, { readOnly: !changes, withoutBacking: true }, (opened) => {
        if (!changes && opened.format === "raw") return;
        const image = asQcow2(opened, "a snapshot");
        if (options.c !== undefined) {
          const now = Date.now();
          image.createSnapshot(options.c, { dateSec: Math.floor(now / 1000), dateNsec: (now % 1000) * 1e6 });
        } else if (options.a !== undefined) image.applySnapshot(options.a);
        else if (options.d !== undefined) image.deleteSnapshot(options.d);
        else {
          const entries = image.snapshots();
          if (entries.length > 0) host.stdout.write(`${snapshotLines(entries).join("\n")}\n`);
        }
      });
    });
};
