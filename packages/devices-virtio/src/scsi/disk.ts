import { type BlockBackend, RestoreError } from "@northbridge/sdk";
import {
  inquiry,
  MAX_UNMAP_BLOCKS,
  MAX_UNMAP_RANGES,
  MAX_WRITE_SAME_BLOCKS,
  type UnitIdentity,
} from "./inquiry.ts";
import {
  type Answer,
  GOOD,
  type LogicalUnit,
  OVERRUN,
  type ScsiData,
  Transfer,
  type UnitStateV1,
} from "./logical-unit.ts";
import { type Extent, extentOf, Medium } from "./medium.ts";
import { CONTROL_PAGE, modeSense } from "./mode-sense.ts";
import {
  be16,
  be32,
  be64,
  DeviceType,
  ModePage,
  Op,
  READ_CAPACITY_16_ACTION,
  SENSE,
  Sense,
  u16,
  u32,
  u64,
} from "./scsi.ts";

/** Caching page (SBC-3 §6.4.5): a write cache that cannot be turned off. */
const CACHING_PAGE: readonly number[] = [
  0x04,
  0,
  ...be16(0xffff),
  0,
  0,
  ...be16(0xffff),
  ...be16(0xffff),
  0x80,
].concat(new Array<number>(7).fill(0));
/** Device-specific parameter of disks: write-protected; FUA is supported. */
const [WP, DPOFUA] = [0x80, 0x10];
const UNMAP_HEADER = 8;
const UNMAP_DESCRIPTOR = 16;
/** Bytes that a WRITE SAME of anything but zeroes writes at once. */
const PATTERN = 0x1_0000;

/** A disk (SBC-3) with a write cache. Not modelled: mode select, reservations, compare and write, protection. */
export class ScsiDisk implements LogicalUnit {
  attention: Sense | undefined = SENSE.POWER_ON;
  readonly medium: Medium;
  readonly #identity: UnitIdentity;

  constructor(options: { readonly backend: BlockBackend; readonly serial: string }) {
    const { backend, serial } = options;
    this.medium = new Medium(backend, backend.blockSize);
    this.#identity = {
      type: DeviceType.DISK,
      product: "disk",
      serial,
      isRemovable: false,
      provisioning: {
        canUnmap: backend.discard !== undefined && !backend.readOnly,
        canWriteZeroes: backend.writeZeroes !== undefined && !backend.readOnly,
      },
    };
  }

  /** The back end has another size now. */
  resized(): void {
    this.attention = SENSE.CAPACITY_CHANGED;
  }

  execute(cdb: Uint8Array, data: ScsiData): Answer {
    switch (cdb[0]) {
      case Op.TEST_UNIT_READY:
      case Op.START_STOP_UNIT:
      case Op.PREVENT_ALLOW_MEDIUM_REMOVAL:
        return GOOD;
      case Op.INQUIRY:
        return inquiry(cdb, this.#identity);
      case Op.MODE_SENSE_6:
      case Op.MODE_SENSE_10:
        return this.#modeSense(cdb);
      case Op.READ_CAPACITY_10:
        return Uint8Array.from([
          ...be32(Math.min(this.medium.lastBlock, 0xffff_ffff)),
          ...be32(this.medium.blockSize),
        ]);
      case Op.SERVICE_ACTION_IN_16:
        return ((cdb[1] ?? 0) & 0x1f) === READ_CAPACITY_16_ACTION ? this.#capacity16() : SENSE.INVALID_FIELD;
      case Op.READ_6:
      case Op.READ_10:
      case Op.READ_12:
      case Op.READ_16:
        return this.medium.read(extentOf(cdb), data);
      case Op.WRITE_6:
      case Op.WRITE_10:
      case Op.WRITE_12:
      case Op.WRITE_16:
        return this.medium.write(extentOf(cdb), data);
      case Op.VERIFY_10:
      case Op.VERIFY_16:
        return this.#verify(cdb);
      case Op.SYNCHRONIZE_CACHE_10:
      case Op.SYNCHRONIZE_CACHE_16:
        return this.medium.flush();
      case Op.UNMAP:
        return this.#unmap(cdb, data);
      case Op.WRITE_SAME_10:
      case Op.WRITE_SAME_16:
        return this.#writeSame(cdb, data);
      default:
        return SENSE.INVALID_OPERATION;
    }
  }

  reset(): void {
    this.attention = SENSE.RESET;
  }

  save(): UnitStateV1 {
    const { attention } = this;
    return {
      size: this.medium.backend.size,
      attention: attention === undefined ? null : [attention.asc, attention.ascq],
      isLocked: false,
      isTrayOpen: false,
      mediaEvent: 0,
    };
  }

  restore({ size, attention }: UnitStateV1): void {
    if (size !== this.medium.backend.size) {
      throw new RestoreError(
        "virtioScsi",
        `the disk had ${size} bytes, expected ${this.medium.backend.size}`,
      );
    }
    this.attention = attention === null ? undefined : new Sense(0x6, ...attention);
  }

  #modeSense(cdb: Uint8Array): Uint8Array | Sense {
    return modeSense(cdb, {
      deviceSpecific: DPOFUA | (this.medium.backend.readOnly ? WP : 0),
      blocks: { count: this.medium.blocks, size: this.medium.blockSize },
      pages: new Map([
        [ModePage.CACHING, CACHING_PAGE],
        [ModePage.CONTROL, CONTROL_PAGE],
      ]),
    });
  }

  #capacity16(): Uint8Array {
    const { lastBlock, blockSize } = this.medium;
    const lbpme = this.#identity.provisioning?.canUnmap === true ? 0x80 : 0;
    return Uint8Array.from([
      ...be64(lastBlock),
      ...be32(blockSize),
      ...[0, 0, lbpme, 0],
      ...new Array<number>(16).fill(0),
    ]);
  }

  /** Whether the medium can be read is not looked at; comparing bytes is not supported. */
  #verify(cdb: Uint8Array): Answer {
    if (((cdb[1] ?? 0) & 0x06) !== 0) return SENSE.INVALID_FIELD;
    return this.medium.contains(extentOf(cdb)) ? GOOD : SENSE.OUT_OF_RANGE;
  }

  /** SBC-3 §5.28. */
  #unmap(cdb: Uint8Array, data: ScsiData): Answer {
    const { backend, blockSize } = this.medium;
    if (this.#identity.provisioning?.canUnmap !== true) {
      return backend.readOnly ? SENSE.WRITE_PROTECTED : SENSE.INVALID_OPERATION;
    }
    const length = u16(cdb, 7);
    if (length === 0) return GOOD;
    const most = UNMAP_HEADER + UNMAP_DESCRIPTOR * MAX_UNMAP_RANGES;
    if (length > data.outLength) return OVERRUN;
    if (length < UNMAP_HEADER) return SENSE.PARAMETER_LIST_LENGTH;
    const list = new Uint8Array(Math.min(length, most));
    data.read(0, list);
    const described = u16(list, 2);
    if (described > list.length - UNMAP_HEADER) return SENSE.INVALID_PARAMETER;
    const extents: Extent[] = [];
    for (let at = UNMAP_HEADER; at + UNMAP_DESCRIPTOR <= UNMAP_HEADER + described; at += UNMAP_DESCRIPTOR) {
      const extent = { lba: u64(list, at), blocks: u32(list, at + 8), fua: false };
      if (!this.medium.contains(extent)) return SENSE.OUT_OF_RANGE;
      if (extent.blocks > MAX_UNMAP_BLOCKS) return SENSE.INVALID_PARAMETER;
      if (extent.blocks > 0) extents.push(extent);
    }
    // All of it, or nothing: a command that is refused has changed nothing.
    const operation = extents.reduce<Promise<void>>(
      (before, { lba, blocks }) => before.then(() => backend.discard?.(lba * blockSize, blocks * blockSize)),
      Promise.resolve(),
    );
    return new Transfer(operation, length, SENSE.WRITE_ERROR);
  }

  /** SBC-3 §5.42, §5.43: of zeroes without a transfer where the back end can, of others in pieces. */
  #writeSame(cdb: Uint8Array, data: ScsiData): Answer {
    const { backend, blockSize, blocks: size } = this.medium;
    if (backend.readOnly) return SENSE.WRITE_PROTECTED;
    const extent = extentOf(cdb);
    const flags = cdb[1] ?? 0;
    const hasNoData = cdb[0] === Op.WRITE_SAME_16 && (flags & 0x01) !== 0;
    if ((flags & 0xf6 & ~0x08) !== 0) return SENSE.INVALID_FIELD; // protection, ANCHOR and the obsolete bits
    if (extent.blocks === 0 || extent.blocks > MAX_WRITE_SAME_BLOCKS) return SENSE.INVALID_FIELD;
    if (extent.lba + extent.blocks > size) return SENSE.OUT_OF_RANGE;
    const block = new Uint8Array(blockSize);
    if (!hasNoData && data.read(0, block) < blockSize) return OVERRUN;
    const offset = extent.lba * blockSize;
    const length = extent.blocks * blockSize;
    const mayUnmap = (flags & 0x08) !== 0;
    const operation =
      backend.writeZeroes !== undefined && block.every((byte) => byte === 0)
        ? backend.writeZeroes(offset, length, mayUnmap)
        : this.#repeat(block, offset, length);
    return new Transfer(operation, hasNoData ? 0 : blockSize, SENSE.WRITE_ERROR);
  }

  async #repeat(block: Uint8Array, offset: number, length: number): Promise<void> {
    const pattern = new Uint8Array(Math.min(PATTERN, length));
    for (let at = 0; at < pattern.length; at += block.length) pattern.set(block, at);
    for (let done = 0; done < length; done += pattern.length) {
      await this.medium.backend.write(offset + done, [pattern.subarray(0, length - done)]);
    }
  }
}
