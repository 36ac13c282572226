import type {
  BlockBackend,
  HostEndBackends,
  HostEndContext,
  HostEndKind,
  HostEndSort,
} from "../contracts/index.ts";

/** Of a disk that nobody may look at. */
const SOME_SIZE = 2 ** 40;

const nothing = (): void => undefined;
const done = (): Promise<void> => Promise.resolve();

/** Ends at which nobody is and nothing happens, for kinds that cannot be tried. */
const IDLE: { readonly [Sort in Exclude<HostEndSort, "directory">]: () => HostEndBackends[Sort] } = {
  block: () => idleDisk({ size: SOME_SIZE, isSizeUnknown: true, blockSize: 512, close: done }, false),
  char: () => ({ write: nothing, connect: nothing, resume: nothing }),
  net: () => ({ mtu: 1500, send: () => true, connect: nothing, resume: nothing, close: done }),
  vsock: () => ({
    connect: () => ({ accepted: nothing, write: nothing, end: nothing, close: nothing, resume: nothing }),
    onConnect: nothing,
    close: done,
  }),
};

/**
 * What a machine that is only checked has in the place of a host end: what the kind finds out by `tryOpen`, without what a
 * device might do with it. Throws as `open` does.
 */
export async function idleEnd(
  kind: HostEndKind,
  options: unknown,
  context: HostEndContext,
): Promise<HostEndBackends[HostEndSort]> {
  const tried = await kind.tryOpen?.(options, context);
  if (tried === undefined) return kind.of === "directory" ? kind.open(options, context) : IDLE[kind.of]();
  return kind.of === "block" ? idleDisk(tried as BlockBackend, context.readOnly) : tried;
}

/** A disk of that size, of which nothing is read and to which nothing is written. */
function idleDisk(
  disk: Pick<BlockBackend, "size" | "isSizeUnknown" | "blockSize" | "location" | "close">,
  readOnly: boolean,
): BlockBackend {
  const { size, isSizeUnknown, blockSize, location } = disk;
  return {
    size,
    isSizeUnknown,
    blockSize,
    readOnly,
    location,
    read: done,
    write: done,
    flush: done,
    mapUnder: () => true,
    close: () => disk.close(),
  };
}
