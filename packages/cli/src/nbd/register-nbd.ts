import { readFileSync } from "node:fs";
import { join } from "node:path";
import { exportImage, NbdServer, type NbdTls, Qcow2Image } from "@northbridge/storage-qcow2";
import { collect } from "../commands/validate.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, openAs, withAccess } from "../img/image-access.ts";

interface ServeOptions extends AccessOptions {
  readonly socket: string;
  readonly exportName: string;
  readonly readOnly?: boolean;
  readonly snapshot?: string;
  readonly bitmap: readonly string[];
  readonly tlsDir?: string;
  readonly verifyPeer?: boolean;
}

export const registerNbd: RegisterCommand = (program, host) => {
  const nbd = program.command("nbd").description("disks over the NBD protocol");
  withAccess(nbd.command("serve"))
    .description("serve an image at a Unix socket until a signal ends it")
    .argument("<IMAGE>")
    .requiredOption("--socket <PATH>", "where to listen")
    .option("-x, --export-name <NAME>", "what clients ask for", "")
    .option("-r, --read-only", "refuse writes")
    .option("--snapshot <SNAPSHOT>", "serve an internal snapshot, read-only")
    .option("--bitmap <NAME>", "offer qemu:dirty-bitmap:NAME; may be repeated", collect, [])
    .option(
      "--tls-dir <DIR>",
      "want TLS, with server-cert.pem, server-key.pem and ca-cert.pem of this directory",
    )
    .option("--verify-peer", "with --tls-dir: clients must show a certificate of the same authority")
    .action(async (path: string, options: ServeOptions) => {
      const readOnly = options.readOnly === true || options.snapshot !== undefined;
      const image = openAs(path, options, {
        readOnly,
        ...(options.snapshot === undefined ? {} : { snapshot: options.snapshot }),
      });
      try {
        if (options.bitmap.length > 0 && !(image instanceof Qcow2Image)) {
          throw new CommandFailed(1, "--bitmap needs a qcow2 image");
        }
        const bitmaps =
          image instanceof Qcow2Image ? options.bitmap.map((name) => image.bitmaps.get(name)) : [];
        const server = await NbdServer.listen(options.socket, {
          exports: [exportImage(image, options.exportName, bitmaps)],
          ...(options.tlsDir === undefined
            ? {}
            : { tls: certificates(options.tlsDir, options.verifyPeer === true) }),
          onError: (error) => host.stderr.write(`northbridge: ${error.message}\n`),
        });
        if (options.quiet !== true) host.stderr.write(`northbridge: serving ${path} at ${options.socket}\n`);
        await untilSignal();
        await server.close();
      } finally {
        image.closeNow();
      }
    });
};

function certificates(directory: string, requestCert: boolean): NbdTls {
  const file = (name: string): Buffer => {
    try {
      return readFileSync(join(directory, name));
    } catch (error) {
      throw new CommandFailed(1, `--tls-dir: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  return { cert: file("server-cert.pem"), key: file("server-key.pem"), ca: file("ca-cert.pem"), requestCert };
}

const untilSignal = (): Promise<void> =>
  new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
  });
