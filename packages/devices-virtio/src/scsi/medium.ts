import type { BlockBackend } from "@northbridge/sdk";
import { type Answer, GOOD, OVERRUN, type ScsiData, Transfer } from "./logical-unit.ts";
import { Op, SENSE, u16, u32, u64 } from "./scsi.ts";

/** Blocks that a command names. */
export interface Extent {
  readonly lba: number;
  readonly blocks: number;
  /** Force unit access: on the medium when the command ends. */
  readonly fua: boolean;
}

/** What a READ, WRITE, VERIFY or WRITE SAME names, by the length of its CDB (SBC-3 §5). */
export function extentOf(cdb: Uint8Array): Extent {
  const op = cdb[0] ?? 0;
  const fua = op !== Op.READ_6 && op !== Op.WRITE_6 && ((cdb[1] ?? 0) & 0x08) !== 0;
  switch (op >> 5) {
    case 0: {
      const lba = (((cdb[1] ?? 0) & 0x1f) << 16) | u16(cdb, 2);
      return { lba, blocks: cdb[4] === 0 ? 256 : (cdb[4] ?? 0), fua };
    }
    case 4:
      return { lba: u64(cdb, 2), blocks: u32(cdb, 10), fua };
    case 5:
      return { lba: u32(cdb, 2), blocks: u32(cdb, 6), fua };
    default:
      return { lba: u32(cdb, 2), blocks: u16(cdb, 7), fua };
  }
}

/** What a unit's blocks are on: a back end, in blocks of the unit's own size. */
export class Medium {
  readonly backend: BlockBackend;
  readonly blockSize: number;
  readonly stats = { reads: 0, writes: 0, flushes: 0, bytesRead: 0, bytesWritten: 0 };

  constructor(backend: BlockBackend, blockSize: number) {
    this.backend = backend;
    this.blockSize = blockSize;
  }

  /** Blocks in all. */
  get blocks(): number {
    return Math.floor(this.backend.size / this.blockSize);
  }

  contains({ lba, blocks }: Extent): boolean {
    return lba + blocks <= this.blocks;
  }

  read(extent: Extent, data: ScsiData): Answer {
    if (!this.contains(extent)) return SENSE.OUT_OF_RANGE;
    const length = extent.blocks * this.blockSize;
    if (length === 0) return GOOD;
    if (length > data.inLength) return OVERRUN;
    this.stats.reads++;
    this.stats.bytesRead += length;
    return new Transfer(
      this.backend.read(extent.lba * this.blockSize, data.in(0, length)),
      length,
      SENSE.READ_ERROR,
    );
  }

  write(extent: Extent, data: ScsiData): Answer {
    if (!this.contains(extent)) return SENSE.OUT_OF_RANGE;
    if (this.backend.readOnly) return SENSE.WRITE_PROTECTED;
    const length = extent.blocks * this.blockSize;
    if (length === 0) return GOOD;
    if (length > data.outLength) return OVERRUN;
    this.stats.writes++;
    this.stats.bytesWritten += length;
    const written = this.backend.write(extent.lba * this.blockSize, data.out(0, length));
    const operation = extent.fua ? written.then(() => this.backend.flush()) : written;
    return new Transfer(operation, length, SENSE.WRITE_ERROR);
  }

  flush(): Answer {
    if (this.backend.readOnly) return GOOD;
    this.stats.flushes++;
    return new Transfer(this.backend.flush(), 0, SENSE.WRITE_ERROR);
  }

  /** The last block, and the size of blocks: READ CAPACITY (10). */
  get lastBlock(): number {
    return Math.max(0, this.blocks - 1);
  }
}
