import { type BlockBackend, RestoreError } from "@northbridge/sdk";
import { inquiry, type UnitIdentity } from "./inquiry.ts";
import { type Answer, GOOD, type LogicalUnit, type ScsiData, type UnitStateV1 } from "./logical-unit.ts";
import { extentOf, Medium } from "./medium.ts";
import { modeSense } from "./mode-sense.ts";
import { be16, be32, DeviceType, ModePage, Op, SENSE, Sense, u16 } from "./scsi.ts";

/** Bytes of a block of data (ISO 9660, Mode 1). */
export const CD_BLOCK = 2048;

/** Profile of MMC-6 §5.3. */
const PROFILE_CD_ROM = 0x0008;
/** Features that GET CONFIGURATION lists (MMC-6 §5.3). */
const Feature = {
  PROFILE_LIST: 0x0000,
  CORE: 0x0001,
  REMOVABLE_MEDIUM: 0x0003,
  RANDOM_READABLE: 0x0010,
  CD_READ: 0x001e,
};
/** Media events (MMC-6 §6.6.2.3). */
const MediaEvent = { NONE: 0, EJECT_REQUEST: 1, NEW_MEDIA: 2, REMOVAL: 3 } as const;
const MEDIA_CLASS = 4;
const LEAD_OUT = 0xaa;
const [START, LOAD_EJECT] = [0x01, 0x02];
/** Track of data, recorded without interruption (MMC-6 §6.25). */
const DATA_TRACK = 0x14;

const ERROR_RECOVERY_PAGE: readonly number[] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/** Capabilities page (MMC-3 §5.5.10): locks, ejects, loads by a tray. */
const capabilitiesPage = (isLocked: boolean): number[] => [
  ...[0, 0, 0x70, 0, 0x29 | (isLocked ? 0x02 : 0), 0],
  ...[...be16(0), ...be16(2), ...be16(512), ...be16(0), 0, 0],
  ...[...be16(0), ...be16(0), 0, 0],
];

/** A CD-ROM drive (MMC-6) whose medium comes and goes: one track of data. Not modelled: audio, DVDs, writing. */
export class ScsiCdRom implements LogicalUnit {
  attention: Sense | undefined = SENSE.POWER_ON;
  readonly #identity: UnitIdentity;
  #medium: Medium | undefined;
  /** A person has put a medium in, of which the config knows nothing. */
  #isInserted = false;
  #isTrayOpen = false;
  #isLocked = false;
  #mediaEvent: number = MediaEvent.NONE;

  constructor(options: { readonly backend?: BlockBackend | undefined; readonly serial: string }) {
    this.#identity = {
      type: DeviceType.CD_ROM,
      product: "CD-ROM",
      serial: options.serial,
      isRemovable: true,
    };
    if (options.backend !== undefined) this.#medium = new Medium(options.backend, CD_BLOCK);
  }

  /** What is in the drive, its tray closed. */
  get medium(): Medium | undefined {
    return this.#isTrayOpen ? undefined : this.#medium;
  }

  get isLocked(): boolean {
    return this.#isLocked;
  }

  /**
   * Opens the tray and takes the medium out. A guest that has locked the drive is asked to let it go: nothing is taken
   * then.
   */
  eject(): BlockBackend | undefined {
    if (this.#isLocked) {
      this.#mediaEvent = MediaEvent.EJECT_REQUEST;
      return undefined;
    }
    const backend = this.#medium?.backend;
    this.#medium = undefined;
    this.#open();
    return backend;
  }

  /** Puts a medium into the open or empty drive and closes it. */
  insert(backend: BlockBackend): void {
    this.#medium = new Medium(backend, CD_BLOCK);
    this.#isInserted = true;
    this.#close();
  }

  execute(cdb: Uint8Array, data: ScsiData): Answer {
    switch (cdb[0]) {
      case Op.INQUIRY:
        return inquiry(cdb, this.#identity);
      case Op.TEST_UNIT_READY:
        return this.#ready(() => GOOD);
      case Op.START_STOP_UNIT:
        return this.#startStop(cdb[4] ?? 0);
      case Op.PREVENT_ALLOW_MEDIUM_REMOVAL:
        this.#isLocked = ((cdb[4] ?? 0) & 1) !== 0;
        return GOOD;
      case Op.READ_CAPACITY_10:
        return this.#ready(({ lastBlock }) => Uint8Array.from([...be32(lastBlock), ...be32(CD_BLOCK)]));
      case Op.READ_6:
      case Op.READ_10:
      case Op.READ_12:
        return this.#ready((medium) => medium.read(extentOf(cdb), data));
      case Op.SYNCHRONIZE_CACHE_10:
        return GOOD;
      case Op.MODE_SENSE_6:
      case Op.MODE_SENSE_10:
        return modeSense(cdb, {
          deviceSpecific: 0,
          pages: new Map([
            [ModePage.ERROR_RECOVERY, ERROR_RECOVERY_PAGE],
            [ModePage.CAPABILITIES, capabilitiesPage(this.#isLocked)],
          ]),
        });
      case Op.READ_TOC:
        return this.#ready((medium) => readToc(cdb, medium));
      case Op.GET_CONFIGURATION:
        return this.#configuration(cdb);
      case Op.GET_EVENT_STATUS:
        return this.#eventStatus(cdb);
      case Op.READ_DISC_INFORMATION:
        return this.#ready(() => discInformation);
      default:
        return SENSE.INVALID_OPERATION;
    }
  }

  reset(): void {
    this.attention = SENSE.RESET;
    this.#isLocked = false;
  }

  save(): UnitStateV1 {
    const { attention } = this;
    return {
      size: this.#medium?.backend.size ?? 0,
      attention: attention === undefined ? null : [attention.asc, attention.ascq],
      isLocked: this.#isLocked,
      isTrayOpen: this.#isTrayOpen,
      mediaEvent: this.#mediaEvent,
      ...(this.#isInserted && this.#medium !== undefined && { wasInserted: true }),
    };
  }

  /** What a person had put in is not here: the guest finds what the config has, and hears of it. */
  #replaced(): void {
    this.#isLocked = false;
    this.#mediaEvent = this.#medium === undefined ? MediaEvent.REMOVAL : MediaEvent.NEW_MEDIA;
    this.attention = SENSE.MEDIUM_CHANGED;
  }

  restore({ size, attention, isLocked, isTrayOpen, mediaEvent, wasInserted }: UnitStateV1): void {
    const found = this.#medium?.backend.size ?? 0;
    if (size === 0)
      this.#medium = undefined; // it had been taken out
    else if (size !== found && wasInserted !== true) {
      throw new RestoreError("virtioScsi", `the CD had ${size} bytes, expected ${found}`);
    }
    this.attention = attention === null ? undefined : new Sense(0x6, ...attention);
    this.#isLocked = isLocked;
    this.#isTrayOpen = isTrayOpen;
    this.#mediaEvent = mediaEvent;
    if (wasInserted === true) this.#replaced();
  }

  #ready(then: (medium: Medium) => Answer): Answer {
    const { medium } = this;
    if (medium !== undefined) return then(medium);
    return this.#isTrayOpen ? SENSE.TRAY_OPEN : SENSE.MEDIUM_NOT_PRESENT;
  }

  #startStop(action: number): Answer {
    if ((action & LOAD_EJECT) === 0) return GOOD;
    if ((action & START) !== 0) {
      if (this.#isTrayOpen) this.#close();
      return GOOD;
    }
    if (this.#isLocked) return SENSE.REMOVAL_PREVENTED;
    this.#open();
    return GOOD;
  }

  #open(): void {
    if (this.#isTrayOpen) return;
    this.#isTrayOpen = true;
    this.#mediaEvent = MediaEvent.REMOVAL;
  }

  #close(): void {
    this.#isTrayOpen = false;
    if (this.#medium === undefined) return;
    this.#mediaEvent = MediaEvent.NEW_MEDIA;
    this.attention = SENSE.MEDIUM_CHANGED;
  }

  /** MMC-6 §6.5. */
  #configuration(cdb: Uint8Array): Uint8Array | Sense {
    const requested = (cdb[1] ?? 0) & 0x03;
    const from = u16(cdb, 2);
    const isCurrent = this.medium === undefined ? 0 : 1;
    const features: [code: number, current: number, version: number, data: number[]][] = [
      [Feature.PROFILE_LIST, 1, 0, [...be16(PROFILE_CD_ROM), isCurrent, 0]],
      [Feature.CORE, 1, 2, [...be32(1), 1, 0, 0, 0]],
      [Feature.REMOVABLE_MEDIUM, 1, 0, [0x29, 0, 0, 0]],
      [Feature.RANDOM_READABLE, isCurrent, 0, [...be32(CD_BLOCK), ...be16(1), 0, 0]],
      [Feature.CD_READ, isCurrent, 2, [0, 0, 0, 0]],
    ];
    if (requested === 3) return SENSE.INVALID_FIELD;
    const wanted = features.filter(
      ([code, current]) =>
        (requested === 2 ? code === from : code >= from) && (requested !== 1 || current === 1),
    );
    const body = wanted.flatMap(([code, current, version, data]) => [
      ...be16(code),
      (version << 2) | (code <= Feature.REMOVABLE_MEDIUM ? 0x02 : 0) | current, // persistent
      data.length,
      ...data,
    ]);
    const profile = isCurrent === 1 ? PROFILE_CD_ROM : 0;
    return Uint8Array.from([...be32(body.length + 4), 0, 0, ...be16(profile), ...body]);
  }

  /** MMC-6 §6.6: polled only. */
  #eventStatus(cdb: Uint8Array): Uint8Array | Sense {
    if (((cdb[1] ?? 0) & 1) === 0) return SENSE.INVALID_FIELD;
    const supported = 1 << MEDIA_CLASS;
    if (((cdb[4] ?? 0) & supported) === 0) return Uint8Array.from([...be16(2), 0x80, supported]); // NEA
    const status = (this.#isTrayOpen ? 1 : 0) | (this.medium === undefined ? 0 : 2);
    const event = this.#mediaEvent;
    this.#mediaEvent = MediaEvent.NONE;
    return Uint8Array.from([...be16(6), MEDIA_CLASS, supported, event, status, 0, 0]);
  }
}

/** One finalized session of one track (MMC-6 §6.22). */
const discInformation: Uint8Array = Uint8Array.from([
  ...[...be16(32), 0x0e, 1, 1, 1, 1, 0, 0, 0, 0, 0],
  ...new Array<number>(4).fill(0),
  ...new Array<number>(8).fill(0xff),
  ...new Array<number>(10).fill(0),
]);

/** READ TOC/PMA/ATIP (MMC-6 §6.25): formats 0 and 1. */
function readToc(cdb: Uint8Array, medium: Medium): Uint8Array | Sense {
  const isMsf = ((cdb[1] ?? 0) & 0x02) !== 0;
  const format = (cdb[2] ?? 0) & 0x0f || (cdb[9] ?? 0) >> 6;
  const first = cdb[6] ?? 0;
  const address = (block: number): number[] => {
    if (!isMsf) return be32(block);
    const frames = block + 150;
    return [0, Math.min(255, Math.floor(frames / 4500)), Math.floor(frames / 75) % 60, frames % 75];
  };
  const track = (number: number, block: number): number[] => [0, DATA_TRACK, number, 0, ...address(block)];
  if (format === 1) return Uint8Array.from([...be16(10), 1, 1, ...track(1, 0)]);
  if (format !== 0 || (first > 1 && first !== LEAD_OUT)) return SENSE.INVALID_FIELD;
  const body = [...(first <= 1 ? track(1, 0) : []), ...track(LEAD_OUT, medium.blocks)];
  return Uint8Array.from([...be16(body.length + 2), 1, 1, ...body]);
}
