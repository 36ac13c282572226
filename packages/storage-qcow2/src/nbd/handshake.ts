import type { Duplex } from "node:stream";
import type { SecureContextOptions } from "node:tls";
import { TLSSocket } from "node:tls";
import { ByteStream, type Field, fields, viewOf } from "./byte-stream.ts";
import type { NbdExport } from "./nbd-export.ts";
import {
  BASE_ALLOCATION,
  DIRTY_BITMAP_PREFIX,
  HandshakeFlag,
  IHAVEOPT,
  Info,
  MAX_NAME_BYTES,
  MAX_OPTION_BYTES,
  MAX_REQUEST_BYTES,
  NBD_MAGIC,
  Option,
  OPTION_REPLY_MAGIC,
  Reply,
  TransmissionFlag,
} from "./spec.ts";

/** What both sides agreed on before requests begin. */
export interface Negotiated {
  readonly stream: ByteStream;
  readonly chosen: NbdExport;
  readonly isStructured: boolean;
  /** Contexts that the client wants, by the ids it was given. */
  readonly contexts: ReadonlyMap<number, string>;
}

/** Certificates of a server; clients that do not ask for TLS are refused. */
export type NbdTls = SecureContextOptions & { readonly requestCert?: boolean };

const text = new TextDecoder();
const bytesOf = (value: string): Uint8Array => new TextEncoder().encode(value);

/** The server's half of the handshake: fixed newstyle (doc/proto.md: Handshake phase). `undefined`: the client left. */
export async function negotiate(
  socket: Duplex,
  exports: readonly NbdExport[],
  tls: NbdTls | undefined,
): Promise<Negotiated | undefined> {
  return new Handshake(socket, exports, tls).run();
}

class Handshake {
  #stream: ByteStream;
  readonly #exports: readonly NbdExport[];
  readonly #tls: NbdTls | undefined;
  #isSecure = false;
  #isStructured = false;
  #contexts: { readonly export: string; readonly byId: Map<number, string> } | undefined;

  constructor(socket: Duplex, exports: readonly NbdExport[], tls: NbdTls | undefined) {
    this.#stream = new ByteStream(socket, "NBD client");
    this.#exports = exports;
    this.#tls = tls;
  }

  async run(): Promise<Negotiated | undefined> {
    const offered = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES;
    await this.#stream.write(fields([64, NBD_MAGIC], [64, IHAVEOPT], [16, offered]));
    const flags = viewOf(await this.#stream.read(4)).getUint32(0);
    if ((flags & ~offered) !== 0 || (flags & HandshakeFlag.FIXED_NEWSTYLE) === 0) return this.#leave();
    for (;;) {
      const head = viewOf(await this.#stream.read(16));
      const option = head.getUint32(8);
      const length = head.getUint32(12);
      if (head.getBigUint64(0) !== IHAVEOPT) return this.#leave();
      if (length > MAX_OPTION_BYTES) {
        await this.#reply(option, Reply.ERR_TOO_BIG);
        return this.#leave();
      }
      const data = await this.#stream.read(length);
      if (
        this.#tls !== undefined &&
        !this.#isSecure &&
        option !== Option.STARTTLS &&
        option !== Option.ABORT
      ) {
        if (option === Option.EXPORT_NAME) return this.#leave();
        await this.#reply(option, Reply.ERR_TLS_REQD);
        continue;
      }
      switch (option) {
        case Option.EXPORT_NAME:
          return this.#exportName(text.decode(data), flags);
        case Option.ABORT:
          await this.#reply(option, Reply.ACK);
          return this.#leave();
        case Option.LIST:
          await this.#list(option, data);
          break;
        case Option.STARTTLS:
          if (!(await this.#startTls(option, data))) return this.#leave();
          break;
        case Option.STRUCTURED_REPLY:
          if (data.length > 0) await this.#reply(option, Reply.ERR_INVALID);
          else {
            this.#isStructured = true;
            await this.#reply(option, Reply.ACK);
          }
          break;
        case Option.INFO:
        case Option.GO: {
          const chosen = await this.#info(option, data);
          if (chosen !== undefined && option === Option.GO) return this.#agreed(chosen);
          break;
        }
        case Option.LIST_META_CONTEXT:
        case Option.SET_META_CONTEXT:
          await this.#metaContext(option, data);
          break;
        default:
          await this.#reply(option, Reply.ERR_UNSUP);
      }
    }
  }

  #leave(): Promise<undefined> {
    this.#stream.end();
    return Promise.resolve(undefined);
  }

  #agreed(chosen: NbdExport): Negotiated {
    const contexts = this.#contexts?.export === chosen.name ? this.#contexts.byId : new Map<number, string>();
    return { stream: this.#stream, chosen, isStructured: this.#isStructured, contexts };
  }

  #reply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): Promise<void> {
    return this.#stream.write(
      fields([64, OPTION_REPLY_MAGIC], [32, option], [32, type], [32, data.length], data),
    );
  }

  /** An export by name; with one export, the empty name is it. */
  #find(name: string): NbdExport | undefined {
    const [only] = this.#exports;
    if (name === "" && this.#exports.length === 1) return only;
    return this.#exports.find((candidate) => candidate.name === name);
  }

  async #exportName(name: string, flags: number): Promise<Negotiated | undefined> {
    const chosen = this.#find(name);
    // This option has no way to refuse but to hang up.
    if (chosen === undefined) return this.#leave();
    const padding = (flags & HandshakeFlag.NO_ZEROES) === 0 ? 124 : 0;
    await this.#stream.write(
      fields(
        [64, chosen.disk.size],
        [16, transmissionFlags(chosen, this.#isStructured)],
        new Uint8Array(padding),
      ),
    );
    return this.#agreed(chosen);
  }

  async #list(option: number, data: Uint8Array): Promise<void> {
    if (data.length > 0) return this.#reply(option, Reply.ERR_INVALID);
    for (const { name, description } of this.#exports) {
      const bytes = bytesOf(name);
      await this.#reply(option, Reply.SERVER, fields([32, bytes.length], bytes, bytesOf(description ?? "")));
    }
    return this.#reply(option, Reply.ACK);
  }

  async #startTls(option: number, data: Uint8Array): Promise<boolean> {
    if (data.length > 0 || this.#isSecure) {
      await this.#reply(option, Reply.ERR_INVALID);
      return true;
    }
    if (this.#tls === undefined) {
      await this.#reply(option, Reply.ERR_POLICY);
      return true;
    }
    await this.#reply(option, Reply.ACK);
    const secure = new TLSSocket(this.#stream.release(), {
      ...this.#tls,
      isServer: true,
      rejectUnauthorized: this.#tls.requestCert === true,
    });
    this.#stream = new ByteStream(secure, "NBD client");
    this.#isSecure = true;
    this.#isStructured = false;
    this.#contexts = undefined;
    return true;
  }

  async #info(option: number, data: Uint8Array): Promise<NbdExport | undefined> {
    const view = viewOf(data);
    const nameLength = data.length >= 6 ? view.getUint32(0) : data.length;
    if (data.length < 6 + nameLength || data.length !== 6 + nameLength + 2 * view.getUint16(4 + nameLength)) {
      await this.#reply(option, Reply.ERR_INVALID);
      return undefined;
    }
    const chosen = this.#find(text.decode(data.subarray(4, 4 + nameLength)));
    if (chosen === undefined) {
      await this.#reply(option, Reply.ERR_UNKNOWN);
      return undefined;
    }
    const asked = new Set<number>();
    for (let at = 6 + nameLength; at < data.length; at += 2) asked.add(view.getUint16(at));
    const info = (...parts: readonly Field[]): Promise<void> =>
      this.#reply(option, Reply.INFO, fields(...parts));
    if (asked.has(Info.NAME)) await info([16, Info.NAME], bytesOf(chosen.name));
    if (asked.has(Info.DESCRIPTION) && chosen.description !== undefined) {
      await info([16, Info.DESCRIPTION], bytesOf(chosen.description));
    }
    // A client that did not ask for block sizes may send any request.
    const least = asked.has(Info.BLOCK_SIZE) ? chosen.disk.blockSize : 1;
    await info(
      [16, Info.BLOCK_SIZE],
      [32, least],
      [32, chosen.preferredBlockBytes ?? 4096],
      [32, MAX_REQUEST_BYTES],
    );
    await info(
      [16, Info.EXPORT],
      [64, chosen.disk.size],
      [16, transmissionFlags(chosen, this.#isStructured)],
    );
    await this.#reply(option, Reply.ACK);
    return chosen;
  }

  async #metaContext(option: number, data: Uint8Array): Promise<void> {
    const strings = this.#isStructured ? decodeQueries(data) : undefined;
    if (strings === undefined) return this.#reply(option, Reply.ERR_INVALID);
    const chosen = this.#find(strings.export);
    if (chosen === undefined) return this.#reply(option, Reply.ERR_UNKNOWN);
    const isSet = option === Option.SET_META_CONTEXT;
    const matched: string[] = [];
    for (const name of chosen.contexts.keys()) {
      const isAsked = strings.queries.some(
        (query) =>
          query === name ||
          (!isSet && query === "base:" && name === BASE_ALLOCATION) ||
          (!isSet &&
            (query === "qemu:" || query === DIRTY_BITMAP_PREFIX) &&
            name.startsWith(DIRTY_BITMAP_PREFIX)),
      );
      if (isAsked || (!isSet && strings.queries.length === 0)) matched.push(name);
    }
    const byId = new Map<number, string>();
    for (const [index, name] of matched.entries()) {
      byId.set(index + 1, name);
      await this.#reply(option, Reply.META_CONTEXT, fields([32, isSet ? index + 1 : 0], bytesOf(name)));
    }
    if (isSet) this.#contexts = { export: chosen.name, byId };
    return this.#reply(option, Reply.ACK);
  }
}

/** The export's name and the queries of a metadata context option; `undefined` where lengths do not add up. */
function decodeQueries(
  data: Uint8Array,
): { readonly export: string; readonly queries: readonly string[] } | undefined {
  const view = viewOf(data);
  let at = 0;
  const word = (): number | undefined => {
    if (at + 4 > data.length) return undefined;
    at += 4;
    return view.getUint32(at - 4);
  };
  const string = (): string | undefined => {
    const length = word();
    if (length === undefined || length > MAX_NAME_BYTES || at + length > data.length) return undefined;
    at += length;
    return text.decode(data.subarray(at - length, at));
  };
  const name = string();
  const count = word();
  if (name === undefined || count === undefined) return undefined;
  const queries: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const query = string();
    if (query === undefined) return undefined;
    queries.push(query);
  }
  return at === data.length ? { export: name, queries } : undefined;
}

function transmissionFlags({ disk }: NbdExport, isStructured: boolean): number {
  const {
    HAS_FLAGS,
    READ_ONLY,
    SEND_FLUSH,
    SEND_FUA,
    SEND_TRIM,
    SEND_WRITE_ZEROES,
    SEND_DF,
    CAN_MULTI_CONN,
  } = TransmissionFlag;
  // All connections use one disk object, so that a flush on one covers the others.
  let flags = HAS_FLAGS | SEND_FLUSH | CAN_MULTI_CONN;
  if (isStructured) flags |= SEND_DF;
  if (disk.readOnly) return flags | READ_ONLY;
  flags |= SEND_FUA;
  if (disk.discard !== undefined) flags |= SEND_TRIM;
  if (disk.writeZeroes !== undefined) flags |= SEND_WRITE_ZEROES;
  return flags;
}
