import * as v from "valibot";
import {
  type BlockBackend,
  type CharEnd,
  type HostEndOptions,
  type HostEnds,
  type NetBackend,
  NorthbridgeError,
} from "../contracts/index.ts";
import { FileBlock } from "./file-block.ts";
import { FileSink } from "./file-sink.ts";
import { LoopbackNet } from "./loopback-net.ts";
import { MemoryBlock } from "./memory-block.ts";
import { RingBufferBackend } from "./ring-buffer.ts";
import { SocketBackend } from "./socket-backend.ts";

/** Opens one kind of back end. `options` are as the config has them, without `kind`. */
export type OpenEnd<B, Use = void> = (options: unknown, use: Use) => Promise<B> | B;

/** Kinds of back ends by name: what packages beside `core` add. */
export interface HostEndKinds {
  readonly block?: Readonly<Record<string, OpenEnd<BlockBackend, { readonly readOnly: boolean }>>>;
  readonly char?: Readonly<Record<string, OpenEnd<CharEnd>>>;
  readonly net?: Readonly<Record<string, OpenEnd<NetBackend>>>;
}

const path = v.pipe(v.string(), v.nonEmpty());
const File = v.strictObject({ path });
const Nothing = v.strictObject({});
const MemoryDisk = v.strictObject({ mib: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2047)) });

const builtIn = {
  block: {
    file: (options, { readOnly }) => FileBlock.open(parse("file", File, options).path, { readOnly }),
    memory: (options, { readOnly }) =>
      new MemoryBlock(new Uint8Array(parse("memory", MemoryDisk, options).mib * 2 ** 20), { readOnly }),
  },
  char: {
    null: (options) => {
      parse("null", Nothing, options);
      return { write: () => undefined, connect: () => undefined, resume: () => undefined };
    },
    ring: (options) => {
      parse("ring", Nothing, options);
      return new RingBufferBackend();
    },
    socket: (options) => SocketBackend.listen(parse("socket", File, options).path),
    file: (options) => {
      const sink = new FileSink(parse("file", File, options).path);
      return {
        write: (byte) => {
          sink.write(byte);
        },
        flush: () => {
          sink.flush();
        },
        connect: () => undefined,
        resume: () => undefined,
        close: () => sink.close(),
      };
    },
  },
  net: {
    loopback: (options) => {
      parse("loopback", Nothing, options);
      return new LoopbackNet();
    },
  },
} satisfies HostEndKinds;

/** The back ends of this package, and `more`. */
export function createHostEnds(more: HostEndKinds = {}): HostEnds {
  const block: HostEndKinds["block"] = { ...builtIn.block, ...more.block };
  const char: HostEndKinds["char"] = { ...builtIn.char, ...more.char };
  const net: HostEndKinds["net"] = { ...builtIn.net, ...more.net };
  return {
    block: async (options, use) => open("block", block, options, use),
    char: async (options) => open("char", char, options, undefined),
    net: async (options) => open("net", net, options, undefined),
  };
}

function open<B, Use>(
  what: string,
  kinds: Readonly<Record<string, OpenEnd<B, Use>>>,
  { kind, ...options }: HostEndOptions,
  use: Use,
): Promise<B> | B {
  const opener = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (opener === undefined) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `kind: expected a ${what} back end (${Object.keys(kinds).sort().join(", ")}), found "${kind}"`,
    );
  }
  return opener(options, use);
}

function parse<T>(kind: string, schema: v.GenericSchema<unknown, T>, options: unknown): T {
  const result = v.safeParse(schema, options);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new NorthbridgeError("NB_CONFIG", `${kind}: ${v.getDotPath(issue) ?? "options"}: ${issue.message}`);
}
