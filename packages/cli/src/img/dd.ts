import { openImage } from "@northbridge/storage-qcow2";
import { Option } from "commander";
import type { RegisterCommand } from "../commands/register-command.ts";
import { CommandFailed } from "../host.ts";
import { makeImage, parseNewImage } from "./create-options.ts";
import { type AccessOptions, parseFormat, usingImage, withAccess } from "./image-access.ts";
import { parseSize } from "./sizes.ts";

export const registerDd: RegisterCommand = (img, host) => {
  withAccess(img.command("dd"), { quiet: false })
    .description("copy a part of a disk into a new image")
    .argument("<OPERAND...>", "if=FILE of=FILE [bs=BYTES] [count=BLOCKS] [skip=BLOCKS]")
    .addOption(new Option("-O <FMT>", "format of the new image").default("raw"))
    .action((operands: readonly string[], options: AccessOptions & { readonly O: string }) => {
      const given = new Map<string, string>();
      for (const operand of operands) {
        const [name, ...rest] = operand.split("=");
        if (name === undefined || !["if", "of", "bs", "count", "skip"].includes(name) || rest.length === 0) {
          throw new CommandFailed(1, `expected if=, of=, bs=, count= or skip=, found '${operand}'`);
        }
        given.set(name, rest.join("="));
      }
      const from = given.get("if");
      const to = given.get("of");
      if (from === undefined || to === undefined) {
        throw new CommandFailed(1, "Must specify both input and output files");
      }
      const blockSize = parseSize(given.get("bs") ?? "512", "bs");
      if (blockSize === 0) throw new CommandFailed(1, "bs: expected more than 0");
      const count = given.get("count");
      const skip = parseSize(given.get("skip") ?? "0", "skip") * blockSize;
      const format = parseFormat(options.O, "-O") ?? "raw";
      return usingImage(from, options, { readOnly: true }, (source) => {
        const wanted = count === undefined ? source.size : parseSize(count, "count") * blockSize + skip;
        const end = Math.min(source.size, wanted);
        const size = Math.max(0, end - skip);
        if (skip > source.size) host.stderr.write(`northbridge: ${from}: cannot skip to specified offset\n`);
        makeImage(to, parseNewImage(format, []), size);
        const target = openImage(to, { format, unsafe: true });
        const chunk = new Uint8Array(Math.max(blockSize, Math.floor((1 << 20) / blockSize) * blockSize));
        for (let at = skip; at < end; at += chunk.length) {
          const bytes = chunk.subarray(0, Math.min(chunk.length, end - at));
          source.readAt(at, bytes);
          // A new image has whole sectors.
          const whole = Math.ceil(bytes.length / 512) * 512;
          if (whole > bytes.length) chunk.fill(0, bytes.length, whole);
          target.writeAt(at - skip, chunk.subarray(0, whole));
        }
        target.closeNow();
      });
    });
};
