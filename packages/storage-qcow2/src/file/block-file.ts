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
  /** As {@link read}, while this thread does other things. */
  readLater?(offset: number, into: Uint8Array): Promise<void>;
  /** Writes all of `from`, growing the file where needed. */
  write(offset: number, from: Uint8Array): void;
  truncate(size: number): void;
  /** Everything written before is on stable storage when this returns (fdatasync). */
  sync(): void;
  /** Where the host knows of holes: the run from `offset`, at most `length`, that is all hole or all data. */
  extentAt?(offset: number, length: number): FileExtent;
  /** Makes a range inside the file read as zeroes and gives its storage back. False: the host cannot. */
  punch?(offset: number, length: number): boolean;
  /** Has the host keep storage for a range, growing the file where needed. False: the host cannot. */
  allocate?(offset: number, length: number): boolean;
  /** Bytes the host allocated for the file. */
  allocated?(): number;
  /**
   * Makes ready for a second opener of the path in this process, which trusts in this one's locks ({@link NodeFile.lock})
   * until this one is closed: there is no moment at which others could come in between.
   * @param toWriter the other one writes: readers are kept away from now on
   * @throws {@link ImageError}: nothing changed
   */
  handOver?(toWriter: boolean): void;
  /** There is no second opener after all. */
  takeBack?(): void;
  close(): void;
}

/** A run of a file. */
export interface FileExtent {
  readonly isHole: boolean;
  readonly length: number;
}
