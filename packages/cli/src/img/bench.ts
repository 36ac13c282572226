import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { type AccessOptions, usingImage, withAccess } from "./image-access.ts";
import { parseCount, parseSize } from "./sizes.ts";

interface BenchOptions extends AccessOptions {
  readonly c: string;
  readonly d: string;
  readonly s: string;
  readonly S?: string;
  readonly o: string;
  readonly w?: boolean;
  readonly pattern: string;
  readonly flushInterval: string;
}

export const registerBench: RegisterCommand = (img, host) => {
  withAccess(img.command("bench"))
    .description("time requests to a disk")
    .argument("<FILE>")
    .option("-c <COUNT>", "requests", "75000")
    .option("-d <DEPTH>", "requests at the same time", "64")
    .option("-s <BYTES>", "bytes of a request", "4096")
    .option("-S <BYTES>", "from one request to the next; as many as a request has by default")
    .option("-o <OFFSET>", "of the first request", "0")
    .option("-w", "write")
    .option("--pattern <BYTE>", "what to write", "0")
    .option("--flush-interval <N>", "flush after so many writes", "0")
    .option("--no-drain", "accepted: flushes do not wait for other requests here")
    .option("-n", "accepted: the page cache is used")
    .option("-i <AIO>", "accepted and ignored")
    .action(async (path: string, options: BenchOptions) => {
      const count = parseCount(options.c, "-c");
      const depth = parseCount(options.d, "-d");
      const bytes = parseSize(options.s, "-s");
      const step = options.S === undefined ? bytes : parseSize(options.S, "-S");
      const start = parseSize(options.o, "-o");
      const flushEvery = parseCount(options.flushInterval, "--flush-interval");
      if (depth === 0) throw new CommandFailed(1, "-d: expected more than 0");
      if (flushEvery > 0 && options.w !== true)
        throw new CommandFailed(1, "--flush-interval is only available in write tests");
      await usingImage(path, options, { readOnly: options.w !== true }, async (image) => {
        if (bytes === 0 || bytes > image.size)
          throw new CommandFailed(1, "-s: the disk is smaller than a request");
        if (options.quiet !== true) {
          host.stdout.write(
            `Sending ${count} ${options.w === true ? "write" : "read"} requests, ${bytes} bytes each, ${depth} in parallel ` +
              `(starting at offset ${start}, step size ${step})\n`,
          );
        }
        let sent = 0;
        let offset = start;
        const one = async (): Promise<void> => {
          const buffer = [new Uint8Array(bytes).fill(Number(options.pattern) & 0xff)];
          while (sent < count) {
            sent += 1;
            const at = offset;
            offset += step;
            if (offset + bytes > image.size) offset = start + bytes > image.size ? 0 : start;
            if (options.w === true) {
              await image.write(at, buffer);
              if (flushEvery > 0 && sent % flushEvery === 0) await image.flush();
            } else await image.read(at, buffer);
          }
        };
        const begun = performance.now();
        await Promise.all(Array.from({ length: Math.min(depth, count) }, one));
        const seconds = (performance.now() - begun) / 1000;
        if (options.quiet !== true) host.stdout.write(`Run completed in ${seconds.toFixed(3)} seconds.\n`);
      });
    });
};
