import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions } from "node:tls";
import { NorthbridgeError } from "@northbridge/sdk";
import { ByteStream, fields, viewOf } from "./byte-stream.ts";
import {
  BASE_ALLOCATION,
  HandshakeFlag,
  IHAVEOPT,
  Info,
  MAX_OPTION_BYTES,
  MAX_REQUEST_BYTES,
  NBD_MAGIC,
  Option,
  OPTION_REPLY_MAGIC,
  Reply,
  TransmissionFlag,
} from "./spec.ts";

/** What a server says of the export that a client chose. */
export interface NbdConnection {
  readonly stream: ByteStream;
  readonly size: number;
  readonly flags: number;
  readonly leastBlockBytes: number;
  readonly maxRequestBytes: number;
  readonly isStructured: boolean;
  /** Id of `base:allocation`, where the server has it. */
  readonly allocationId: number | undefined;
}

const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value);

/**
 * The client's half of the handshake with a fixed newstyle server (doc/proto.md: Handshake phase).
 * @param tls goes on encrypted, or fails where the server cannot
 * @throws NorthbridgeError with code `NB_HOST`
 */
export async function chooseExport(
  socket: Duplex,
  name: string,
  where: string,
  tls: ConnectionOptions | undefined,
): Promise<NbdConnection> {
  let stream = new ByteStream(socket, where);
  const fail = (message: string): NorthbridgeError => new NorthbridgeError("NB_HOST", `${where}: ${message}`);
  const hello = viewOf(await stream.read(18));
  if (hello.getBigUint64(0) !== NBD_MAGIC) throw fail("this is no NBD server");
  if (hello.getBigUint64(8) !== IHAVEOPT || (hello.getUint16(16) & HandshakeFlag.FIXED_NEWSTYLE) === 0) {
    throw fail("the server does not speak the fixed newstyle handshake");
  }
  await stream.write(
    fields([32, hello.getUint16(16) & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)]),
  );

  const ask = (option: number, data: Uint8Array): Promise<void> =>
    stream.write(fields([64, IHAVEOPT], [32, option], [32, data.length], data));
  const reply = async (option: number): Promise<{ readonly type: number; readonly data: Uint8Array }> => {
    const head = viewOf(await stream.read(20));
    const length = head.getUint32(16);
    if (
      head.getBigUint64(0) !== OPTION_REPLY_MAGIC ||
      head.getUint32(8) !== option ||
      length > MAX_OPTION_BYTES
    ) {
      throw fail("the server's reply to an option makes no sense");
    }
    return { type: head.getUint32(12), data: await stream.read(length) };
  };

  if (tls !== undefined) {
    await ask(Option.STARTTLS, new Uint8Array(0));
    if ((await reply(Option.STARTTLS)).type !== Reply.ACK) throw fail("the server does not offer TLS");
    const secure = connect({ ...tls, socket: stream.release() });
    await new Promise<void>((resolve, reject) => {
      secure.once("secureConnect", resolve);
      secure.once("error", (error: Error) => {
        reject(new NorthbridgeError("NB_HOST", `${where}: TLS: ${error.message}`, { cause: error }));
      });
    });
    stream = new ByteStream(secure, where);
  }

  await ask(Option.STRUCTURED_REPLY, new Uint8Array(0));
  const isStructured = (await reply(Option.STRUCTURED_REPLY)).type === Reply.ACK;
  const exportName = bytesOf(name);
  let allocationId: number | undefined;
  if (isStructured) {
    const query = bytesOf(BASE_ALLOCATION);
    await ask(
      Option.SET_META_CONTEXT,
      fields([32, exportName.length], exportName, [32, 1], [32, query.length], query),
    );
    for (;;) {
      const { type, data } = await reply(Option.SET_META_CONTEXT);
      if (type !== Reply.META_CONTEXT) break;
      if (data.length >= 4) allocationId = viewOf(data).getUint32(0);
    }
  }
  await ask(Option.GO, fields([32, exportName.length], exportName, [16, 1], [16, Info.BLOCK_SIZE]));
  let size = -1;
  let flags = 0;
  let leastBlockBytes = 1;
  let maxRequestBytes = MAX_REQUEST_BYTES;
  for (;;) {
    const { type, data } = await reply(Option.GO);
    if (type === Reply.ACK) break;
    if (type === Reply.ERR_TLS_REQD) throw fail("the server wants TLS");
    if (type !== Reply.INFO) {
      const why = new TextDecoder().decode(data);
      throw fail(`the server refuses the export '${name}'${why === "" ? "" : `: ${why}`}`);
    }
    const view = viewOf(data);
    const kind = data.length >= 2 ? view.getUint16(0) : -1;
    if (kind === Info.EXPORT && data.length >= 12) {
      size = Number(view.getBigUint64(2));
      flags = view.getUint16(10);
    } else if (kind === Info.BLOCK_SIZE && data.length >= 14) {
      leastBlockBytes = view.getUint32(2);
      maxRequestBytes = Math.min(MAX_REQUEST_BYTES, view.getUint32(10));
    }
  }
  if (!Number.isSafeInteger(size) || size < 0 || (flags & TransmissionFlag.HAS_FLAGS) === 0) {
    throw fail(`the server gives the export '${name}' an impossible size or no flags`);
  }
  if (leastBlockBytes > 65536 || (leastBlockBytes & (leastBlockBytes - 1)) !== 0 || maxRequestBytes < 65536) {
    throw fail("the server's block sizes are outside of what the protocol allows");
  }
  return { stream, size, flags, leastBlockBytes, maxRequestBytes, isStructured, allocationId };
}
