import { NorthbridgeError } from "@northbridge/sdk";
import type { BlockOrder } from "./block-order.ts";
import { type ByteStream, fields, viewOf } from "./byte-stream.ts";
import type { Negotiated } from "./handshake.ts";
import type { StatusExtent } from "./nbd-export.ts";
import { zeroRange } from "../operations/zero-range.ts";
import {
  AllocationState,
  BASE_ALLOCATION,
  Command,
  CommandFlag,
  Errno,
  MAX_REQUEST_BYTES,
  ReplyFlag,
  ReplyType,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from "./spec.ts";

/** Extents in one reply; a client asks again for what follows. */
const MAX_EXTENTS = 4096;

interface Request {
  readonly flags: number;
  readonly command: number;
  readonly cookie: bigint;
  readonly offset: number;
  readonly length: number;
}

/** A request that is refused: its number of errno(3) goes to the client. */
class Refused extends Error {
  override readonly name = "Refused";
  readonly errno: number;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
  }
}

/**
 * Answers the requests of one client until it leaves (doc/proto.md: Transmission phase).
 * @param order shared by the clients of the disk
 */
export async function serveRequests(agreed: Negotiated, order: BlockOrder): Promise<void> {
  const { stream } = agreed;
  for (;;) {
    const view = viewOf(await stream.read(REQUEST_BYTES));
    if (view.getUint32(0) !== REQUEST_MAGIC)
      throw new NorthbridgeError("NB_HOST", "NBD client: not a request");
    const request: Request = {
      flags: view.getUint16(4),
      command: view.getUint16(6),
      cookie: view.getBigUint64(8),
      offset: Number(view.getBigUint64(16)),
      length: view.getUint32(24),
    };
    if (request.command === Command.DISC) {
      stream.end();
      return;
    }
    if (request.command === Command.WRITE && request.length > MAX_REQUEST_BYTES) {
      throw new NorthbridgeError("NB_HOST", `NBD client: a write of ${request.length} bytes`);
    }
    const payload = request.command === Command.WRITE ? await stream.read(request.length) : undefined;
    try {
      await answer(agreed, order, request, payload);
    } catch (error) {
      const errno = error instanceof Refused ? error.errno : Errno.EIO;
      await refuse(agreed, request, errno, error instanceof Error ? error.message : String(error));
    }
  }
}

async function answer(
  agreed: Negotiated,
  order: BlockOrder,
  request: Request,
  payload: Uint8Array | undefined,
): Promise<void> {
  const { disk } = agreed.chosen;
  const { flags, command, offset, length } = request;
  const isFua = (flags & CommandFlag.FUA) !== 0;
  if (command === Command.READ || command === Command.BLOCK_STATUS)
    expectRange(agreed, request, Errno.EINVAL);
  switch (command) {
    case Command.READ:
      return read(agreed, request);
    case Command.WRITE:
      expectWritable(agreed, request);
      await order.change(offset, length, () => aligned(agreed, offset, payload ?? new Uint8Array(0)));
      break;
    case Command.TRIM:
      expectWritable(agreed, request);
      await discard(agreed, order, offset, length);
      break;
    case Command.WRITE_ZEROES:
      expectWritable(agreed, request);
      await order.change(offset, length, () =>
        writeZeroes(agreed, offset, length, (flags & CommandFlag.NO_HOLE) === 0),
      );
      break;
    case Command.FLUSH:
      await disk.flush();
      break;
    case Command.BLOCK_STATUS:
      return blockStatus(agreed, request);
    default:
      throw new Refused(Errno.EINVAL, `command ${command} is unknown`);
  }
  if (isFua) await disk.flush();
  await done(agreed, request);
}

/** Writes bytes that need not start or end at a block. */
async function aligned({ chosen: { disk } }: Negotiated, offset: number, bytes: Uint8Array): Promise<void> {
  const lead = offset % disk.blockSize;
  const end = offset + bytes.length;
  const tail = (disk.blockSize - (end % disk.blockSize)) % disk.blockSize;
  if (lead === 0 && tail === 0) return disk.write(offset, [bytes]);
  const whole = new Uint8Array(lead + bytes.length + tail);
  await disk.read(offset - lead, [whole]);
  whole.set(bytes, lead);
  return disk.write(offset - lead, [whole]);
}

/** Gives up the blocks that lie in the range as a whole. */
async function discard(agreed: Negotiated, order: BlockOrder, offset: number, length: number): Promise<void> {
  const { disk } = agreed.chosen;
  const start = Math.ceil(offset / disk.blockSize) * disk.blockSize;
  const bytes = wholeBlocks(agreed, offset, length);
  await order.change(start, bytes, async () => disk.discard?.(start, bytes));
}

/** Zeroes that need not start or end at a block; up to 4 GiB of them, of which only the ends are bytes. */
async function writeZeroes(
  agreed: Negotiated,
  offset: number,
  length: number,
  mayUnmap: boolean,
): Promise<void> {
  const { disk } = agreed.chosen;
  const start = Math.ceil(offset / disk.blockSize) * disk.blockSize;
  const bytes = wholeBlocks(agreed, offset, length);
  if (bytes === 0) return aligned(agreed, offset, new Uint8Array(length));
  if (start > offset) await aligned(agreed, offset, new Uint8Array(start - offset));
  await zeroRange(disk, start, bytes, mayUnmap);
  const end = start + bytes;
  if (end < offset + length) await aligned(agreed, end, new Uint8Array(offset + length - end));
}

function wholeBlocks({ chosen: { disk } }: Negotiated, offset: number, length: number): number {
  const start = Math.ceil(offset / disk.blockSize);
  return Math.max(0, Math.floor((offset + length) / disk.blockSize) - start) * disk.blockSize;
}

function expectWritable(agreed: Negotiated, request: Request): void {
  if (agreed.chosen.disk.readOnly) throw new Refused(Errno.EPERM, "the export is read-only");
  expectRange(agreed, request, Errno.ENOSPC);
}

function expectRange({ chosen: { disk } }: Negotiated, { offset, length }: Request, errno: number): void {
  if (!Number.isSafeInteger(offset) || offset + length > disk.size) {
    throw new Refused(errno, `${length} bytes at ${offset} are not inside the export's ${disk.size}`);
  }
}

async function read(agreed: Negotiated, request: Request): Promise<void> {
  const { stream, chosen, isStructured } = agreed;
  const { offset, length, cookie, flags } = request;
  if (length > MAX_REQUEST_BYTES) throw new Refused(Errno.EOVERFLOW, `a read of ${length} bytes`);
  const status = chosen.contexts.get(BASE_ALLOCATION);
  const mayCut = isStructured && (flags & CommandFlag.DF) === 0 && status !== undefined && length > 0;
  if (!mayCut) {
    const bytes = await readBytes(agreed, offset, length);
    if (isStructured) {
      await stream.write(
        chunkHead(cookie, ReplyFlag.DONE, ReplyType.OFFSET_DATA, 8 + length),
        fields([64, offset]),
        bytes,
      );
    } else await stream.write(fields([32, SIMPLE_REPLY_MAGIC], [32, 0], [64, cookie]), bytes);
    return;
  }
  let at = offset;
  for (const { length: run, flags: state } of status(offset, offset + length)) {
    const last = at + run >= offset + length ? ReplyFlag.DONE : 0;
    if ((state & AllocationState.ZERO) !== 0) {
      await stream.write(chunkHead(cookie, last, ReplyType.OFFSET_HOLE, 12), fields([64, at], [32, run]));
    } else {
      const bytes = await readBytes(agreed, at, run);
      await stream.write(chunkHead(cookie, last, ReplyType.OFFSET_DATA, 8 + run), fields([64, at]), bytes);
    }
    at += run;
  }
}

async function readBytes(
  { chosen: { disk } }: Negotiated,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const lead = offset % disk.blockSize;
  const whole = Math.ceil((lead + length) / disk.blockSize) * disk.blockSize;
  const bytes = new Uint8Array(whole);
  await disk.read(offset - lead, [bytes]);
  return bytes.subarray(lead, lead + length);
}

async function blockStatus(agreed: Negotiated, request: Request): Promise<void> {
  const { stream, chosen, contexts } = agreed;
  const { offset, length, cookie, flags } = request;
  if (contexts.size === 0) throw new Refused(Errno.EINVAL, "no metadata context was negotiated");
  if (length === 0) throw new Refused(Errno.EINVAL, "a status of no bytes");
  const ids = [...contexts.keys()];
  for (const [index, id] of ids.entries()) {
    const source = chosen.contexts.get(contexts.get(id) ?? "");
    const extents: StatusExtent[] = [];
    for (const extent of source?.(offset, offset + length) ?? []) {
      extents.push(extent);
      if ((flags & CommandFlag.REQ_ONE) !== 0 || extents.length >= MAX_EXTENTS) break;
    }
    const list = fields(
      [32, id],
      ...extents.map((extent) => fields([32, extent.length], [32, extent.flags])),
    );
    const last = index === ids.length - 1 ? ReplyFlag.DONE : 0;
    await stream.write(chunkHead(cookie, last, ReplyType.BLOCK_STATUS, list.length), list);
  }
}

const chunkHead = (cookie: bigint, flags: number, type: number, length: number): Uint8Array =>
  fields([32, STRUCTURED_REPLY_MAGIC], [16, flags], [16, type], [64, cookie], [32, length]);

/** Success without data; a simple reply may answer anything but a structured read. */
const done = ({ stream }: { readonly stream: ByteStream }, { cookie }: Request): Promise<void> =>
  stream.write(fields([32, SIMPLE_REPLY_MAGIC], [32, 0], [64, cookie]));

async function refuse(
  agreed: Negotiated,
  { cookie }: Request,
  errno: number,
  message: string,
): Promise<void> {
  if (!agreed.isStructured) {
    await agreed.stream.write(fields([32, SIMPLE_REPLY_MAGIC], [32, errno], [64, cookie]));
    return;
  }
  const text = new TextEncoder().encode(message).subarray(0, 4096);
  await agreed.stream.write(
    chunkHead(cookie, ReplyFlag.DONE, ReplyType.ERROR, 6 + text.length),
    fields([32, errno], [16, text.length], text),
  );
}
