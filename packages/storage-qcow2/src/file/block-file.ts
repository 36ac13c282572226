/**
 * A file as an image format sees it: bytes at offsets, and a barrier. Calls block, as they do on the page cache;
 * whoever must not block runs the image on a thread of its own.
 */
export interface BlockFile {
  /** How errors name the file. */
  readonly path: string;
  readonly readOnly: boolean;
  /** Length in bytes, as of now. */
  size(): number;
  /** Fills `into` from `offset`; what lies beyond the end reads as zeroes. */
  read(offset: number, into: Uint8Array): void;
  /** Writes all of `from`, growing the file where needed. */
  write(offset: number, from: Uint8Array): void;
  truncate(size: number): void;
  /** Everything written before is on stable storage when this returns (fdatasync). */
  sync(): void;
  /** The start of the next byte that may be non-zero at or after `offset`, where the host knows of holes. */
  nextData?(offset: number): number;
  /** Bytes the host allocated for the file. */
  allocated?(): number;
  close(): void;
}
