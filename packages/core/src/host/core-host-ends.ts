import * as v from "valibot";
import {
  type CharEnd,
  type ConfigSchema,
  type HostEndKind,
  type HostEndOptions,
  type HostEndSort,
  logLine,
} from "../contracts/index.ts";
import { FaultyBlock } from "./faulty-block.ts";
import { FileBlock, type FileBlockOptions } from "./file-block.ts";
import { FileSink } from "./file-sink.ts";
import { LoopbackNet } from "./loopback-net.ts";
import { MemoryBlock } from "./memory-block.ts";
import { RingBufferBackend } from "./ring-buffer.ts";
import { SocketBackend } from "./socket-backend.ts";
import { tryAppend, tryListen } from "./try-path.ts";
import { UnixVsock } from "./unix-vsock.ts";
import { WatchedConsole } from "./watched-console.ts";

type At = { readonly path: string };
const At = v.strictObject({ path: v.pipe(v.string("expected a path"), v.nonEmpty("expected a path")) });
const Nothing = v.strictObject({});
const mib = "expected a whole number from 1 to 2047";
const MemoryDisk = v.strictObject({
  mib: v.pipe(v.number(mib), v.integer(mib), v.minValue(1, mib), v.maxValue(2047, mib)),
});

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Faulty = v.strictObject({
  disk: v.custom<HostEndOptions>(() => true),
  latencyUs: v.optional(count, 0),
  faults: v.optional(
    v.array(
      v.strictObject({
        error: v.pipe(v.string(), v.regex(/^E[A-Z0-9]+$/, "expected an errno's name, as EIO")),
        on: v.optional(v.picklist(["read", "write", "flush", "discard", "writeZeroes"])),
        sectors: v.optional(v.tuple([count, count])),
        skip: v.optional(count),
        times: v.optional(count),
        after: v.optional(count),
      }),
    ),
    [],
  ),
});

/** A guest's end of it that swallows output and has no input. */
const silent: CharEnd = { write: () => undefined, connect: () => undefined, resume: () => undefined };

const kind = <Sort extends HostEndSort, Out>(
  of: Sort,
  name: string,
  options: ConfigSchema<unknown, Out>,
  open: HostEndKind<Sort, unknown, Out>["open"],
): HostEndKind<Sort, unknown, Out> => ({ of, kind: name, options, open });

/** A kind that may be opened to see whether it can be: nothing of the host changes. */
const harmless = <Sort extends HostEndSort, Out>(
  ofHost: HostEndKind<Sort, unknown, Out>,
): HostEndKind<Sort, unknown, Out> => ({
  ...ofHost,
  tryOpen: (options, context) => ofHost.open(options, context),
});

/**
 * `{ kind: file, path }`. With `holes`, what a guest discards is given back to the host; with `mapper`, the file can be
 * guest memory; with `lock`, one file is one machine's disk.
 */
export function fileDiskKind(host: Pick<FileBlockOptions, "holes" | "mapper" | "lock"> = {}): HostEndKind {
  const file: HostEndKind<"block", unknown, At> = {
    ...kind("block", "file", At, ({ path }, { readOnly, clock }) =>
      FileBlock.open(path, { ...host, readOnly, clock }),
    ),
    // Past the locks of a machine that has the file.
    tryOpen: ({ path }, { readOnly, clock }) => FileBlock.open(path, { readOnly, clock }),
  };
  return file;
}

const memoryDisk = kind("block", "memory", MemoryDisk, (options, { readOnly }) => {
  return new MemoryBlock(new Uint8Array(options.mib * 2 ** 20), { readOnly });
});

const faultyDisk = {
  ...kind("block", "faulty", Faulty, async ({ disk, latencyUs, faults }, { clock, ends, readOnly }) => {
    const faulty = new FaultyBlock(await ends.block(disk, { readOnly }), { clock, latencyUs, faults });
    faulty.hurry(); // devices are set up while guest time stands still, and may read at once
    return faulty;
  }),
  ends: { disk: "block" as const },
};

const socket: HostEndKind<"char", unknown, At> = {
  ...kind("char", "socket", At, ({ path }) => SocketBackend.listen(path)),
  tryOpen: ({ path }) => tryListen(path),
};

const unixVsock: HostEndKind<"vsock", unknown, At> = {
  ...kind("vsock", "unix", At, ({ path }) => UnixVsock.listen(path)),
  tryOpen: ({ path }) => tryListen(path),
};

const fileOutput: HostEndKind<"char", unknown, At> = {
  ...kind("char", "file", At, ({ path }, context) => {
    const sink = new FileSink(path, (message) => {
      logLine(context.log, context.device, message);
    });
    context.onStats(() => ({ lostBytes: sink.lostBytes }));
    return {
      ...silent,
      write: (byte) => {
        sink.write(byte);
      },
      flush: () => {
        sink.flush();
      },
      close: () => sink.close(),
    };
  }),
  tryOpen: ({ path }) => tryAppend(path),
};

// Not closed with the device: it is the machine's.
const machineConsole = kind("char", "console", Nothing, ({}, { console }) => new WatchedConsole(console));

/** The kinds that every registry has. */
export const coreHostEnds: readonly HostEndKind[] = [
  fileDiskKind(),
  harmless(memoryDisk),
  harmless(faultyDisk),
  harmless(kind("char", "null", Nothing, () => silent)),
  harmless(kind("char", "ring", Nothing, () => new RingBufferBackend())),
  socket,
  fileOutput,
  harmless(machineConsole),
  harmless(kind("net", "loopback", Nothing, () => new LoopbackNet())),
  unixVsock,
];
