import { type BlockBackend, type IoWidth, NorthbridgeError, RestoreError } from "@northbridge/sdk";
import {
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtioSession,
  virtioSpec,
  type VirtQueue,
} from "@northbridge/sdk/virtio";
import type { OnError } from "../on-error.ts";
import { parseSize } from "../parse-size.ts";
import { expectVersion } from "../saved-state.ts";
import { ScsiCdRom } from "./cd-rom.ts";
import { ChainData } from "./chain-data.ts";
import { ScsiDisk } from "./disk.ts";
import { execute } from "./execute.ts";
import { type Answer, OVERRUN, Transfer, type UnitStateV1 } from "./logical-unit.ts";
import { addressOf, lunOf, targetOf } from "./lun.ts";
import { SENSE, Sense, Status } from "./scsi.ts";
import {
  CDB_SIZE,
  Config,
  Event,
  Feature,
  MAX_CDB_SIZE,
  MAX_SENSE_SIZE,
  MAX_TARGETS,
  Queue,
  Request,
  Response,
  ResponseCode,
  SEG_MAX,
  SENSE_SIZE,
} from "./spec.ts";
import { TaskManagement } from "./task-management.ts";
import { type Task, TaskSet } from "./task.ts";

/** What is behind the sense data of a response. */
const NO_SENSE = new Uint8Array(MAX_SENSE_SIZE);
const QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 64;

/** A target with one unit. */
export type ScsiTarget =
  | { readonly type: "disk"; readonly backend: BlockBackend; readonly serial: string }
  | { readonly type: "cdRom"; readonly backend?: BlockBackend | undefined; readonly serial: string };

export interface VirtioScsiDeps {
  readonly targets: readonly ScsiTarget[];
  /** Request queues. @defaultValue 1 */
  readonly queues?: number;
  /** As of block devices. @defaultValue report */
  readonly onError?: OnError;
  /** Asks the machine to pause, saying why. */
  readonly stop?: (reason: string) => void;
  /** Images that a person puts into a drive and takes out of it. @defaultValue none */
  readonly media?: {
    open(path: string): Promise<BlockBackend>;
    close(medium: BlockBackend): Promise<void>;
  };
}

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioScsiStateV1 {
  readonly version: 1;
  readonly units: readonly UnitStateV1[];
  /** Targets whose change the driver has not heard of. */
  readonly changed: readonly number[];
}

/**
 * SCSI host device (virtio 1.3 §5.6): each target has one unit, a disk or a CD-ROM drive. Commands end in the back
 * end's order. Not modelled: targets that come and go, task attributes but SIMPLE, protection information, commands with
 * data both ways.
 */
export class VirtioScsi implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.SCSI;
  readonly features: readonly number[] = [Feature.CHANGE];
  readonly queues: readonly number[];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #view: DataView = new DataView(this.config.buffer);
  readonly #units: readonly (ScsiDisk | ScsiCdRom)[];
  readonly #tasks = new TaskSet();
  readonly #management: TaskManagement;
  /** Control requests that wait for commands to end. */
  readonly #controls = new Set<Promise<void>>();
  readonly #changed = new Set<number>();
  readonly #data = new ChainData();
  readonly #cdb: Uint8Array = new Uint8Array(MAX_CDB_SIZE);
  readonly #onError: OnError;
  readonly #stop: (reason: string) => void;
  readonly #media: VirtioScsiDeps["media"];
  readonly #counts = { commands: 0, checkConditions: 0, aborted: 0, errors: 0 };
  #session: VirtioSession | undefined;
  #isPaused = false;

  /** Throws `NB_CONFIG` for no targets, or too many. */
  constructor(deps: VirtioScsiDeps) {
    const { targets, queues = 1 } = deps;
    if (targets.length === 0 || targets.length > MAX_TARGETS) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `targets: expected 1 to ${MAX_TARGETS}, found ${targets.length}`,
      );
    }
    this.#units = targets.map((target) =>
      target.type === "disk" ? new ScsiDisk(target) : new ScsiCdRom(target),
    );
    this.#management = new TaskManagement(this.#units, this.#tasks);
    this.#onError = deps.onError ?? "report";
    this.#stop = deps.stop ?? (() => undefined);
    this.#media = deps.media;
    this.queues = [CONTROL_QUEUE_SIZE, CONTROL_QUEUE_SIZE, ...new Array<number>(queues).fill(QUEUE_SIZE)];
    const view = this.#view;
    view.setUint32(Config.NUM_QUEUES, queues, true);
    view.setUint32(Config.SEG_MAX, Math.min(SEG_MAX, QUEUE_SIZE - 2), true);
    view.setUint32(Config.MAX_SECTORS, 0xffff, true);
    view.setUint32(Config.CMD_PER_LUN, QUEUE_SIZE / 2, true);
    view.setUint32(Config.EVENT_INFO_SIZE, Event.LENGTH, true);
    view.setUint16(Config.MAX_TARGET, targets.length - 1, true);
    this.#resetSizes();
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    for (const [field, most] of [
      [Config.SENSE_SIZE, MAX_SENSE_SIZE],
      [Config.CDB_SIZE, MAX_CDB_SIZE],
    ] as const) {
      if (offset < field || offset + width > field + 4) continue;
      // Drivers older than virtio 1.0 write it byte by byte.
      const old = this.#view.getUint32(field, true);
      for (let i = 0; i < width; i++) this.config[offset + i] = (value >>> (8 * i)) & 0xff;
      if (this.#view.getUint32(field, true) > most) this.#view.setUint32(field, old, true);
    }
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined || this.#isPaused) return;
    if (index === Queue.CONTROL) serve(queue, (chain) => this.#control(queue, chain));
    else if (index === Queue.EVENT) this.#sendEvents();
    else serve(queue, (chain) => this.#command(index, queue, chain));
  }

  reset(): Promise<void> | undefined {
    this.#session = undefined;
    this.#changed.clear();
    for (const unit of this.#units) unit.reset();
    this.#resetSizes();
    return this.#tasks.over();
  }

  resetQueue(index: number): Promise<void> | undefined {
    return this.#tasks.over([...this.#tasks].filter((task) => task.queueIndex === index));
  }

  async pause(): Promise<void> {
    this.#isPaused = true;
    for (const { medium } of this.#units) medium?.backend.hurry?.();
    await this.#tasks.over();
    await Promise.all(this.#controls);
  }

  resume(): void {
    this.#isPaused = false;
    this.#sendEvents();
  }

  /** The back end of a disk has another size now. */
  resized(target: number): void {
    const unit = this.#units[target];
    if (!(unit instanceof ScsiDisk)) return;
    unit.resized();
    this.#changed.add(target);
    this.#sendEvents();
  }

  /** `eject TARGET`, `insert TARGET PATH`, `resize TARGET SIZE`. */
  async monitorCommand(words: readonly string[]): Promise<string> {
    const [verb, number, path, ...rest] = words;
    if (verb === "resize") return this.#resize(words);
    const unit = this.#units[Number(number)];
    const isWanted = verb === "insert" ? path !== undefined : verb === "eject" && path === undefined;
    const media = this.#media;
    if (media === undefined || number === undefined || rest.length > 0 || !isWanted) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `expected eject TARGET, insert TARGET PATH or resize TARGET SIZE, found ${words.join(" ")}`,
      );
    }
    if (!(unit instanceof ScsiCdRom)) {
      throw new NorthbridgeError("NB_CONFIG", `expected the number of a CD-ROM drive, found ${number}`);
    }
    const taken = unit.eject();
    if (unit.isLocked) return "the guest has locked the drive and has been asked to let it go";
    if (taken !== undefined) {
      await this.#tasks.over(this.#tasks.of(Number(number))); // they read it
      await media.close(taken);
    }
    if (path === undefined) return "ejected";
    unit.insert(await media.open(path));
    return "inserted";
  }

  /** Gives the back end of a disk, and so the guest, another capacity. */
  async #resize([, number, size, ...rest]: readonly string[]): Promise<string> {
    const target = Number(number);
    const unit = this.#units[target];
    const bytes = size === undefined || rest.length > 0 ? undefined : parseSize(size);
    if (!(unit instanceof ScsiDisk)) {
      throw new NorthbridgeError("NB_CONFIG", `expected the number of a disk, found ${number ?? "nothing"}`);
    }
    const { backend, blockSize } = unit.medium;
    if (bytes === undefined || bytes === 0 || bytes % blockSize !== 0) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `expected a size in bytes, or with K, M, G or T, that is a multiple of ${blockSize}, found ${size ?? "nothing"}`,
      );
    }
    if (backend.resize === undefined || backend.readOnly)
      throw new NorthbridgeError("NB_HOST", "this disk cannot have another size");
    await backend.resize(bytes);
    this.resized(target);
    return `${bytes} bytes`;
  }

  stats(): Readonly<Record<string, number>> {
    const stats: Record<string, number> = { ...this.#counts };
    for (const { medium } of this.#units) {
      for (const [name, count] of Object.entries(medium?.stats ?? {}))
        stats[name] = (stats[name] ?? 0) + count;
    }
    return stats;
  }

  save(): VirtioScsiStateV1 {
    return { version: 1, units: this.#units.map((unit) => unit.save()), changed: [...this.#changed] };
  }

  restore(state: unknown): void {
    const { version, units, changed } = state as VirtioScsiStateV1;
    expectVersion("virtioScsi", version);
    if (units.length !== this.#units.length) {
      throw new RestoreError("virtioScsi", `${units.length} targets, expected ${this.#units.length}`);
    }
    this.#units.forEach((unit, index) => {
      const saved = units[index];
      if (saved !== undefined) unit.restore(saved);
    });
    this.#changed.clear();
    for (const target of changed) this.#changed.add(target);
  }

  get #cdbSize(): number {
    return this.#view.getUint32(Config.CDB_SIZE, true);
  }

  get #senseSize(): number {
    return this.#view.getUint32(Config.SENSE_SIZE, true);
  }

  #resetSizes(): void {
    this.#view.setUint32(Config.SENSE_SIZE, SENSE_SIZE, true);
    this.#view.setUint32(Config.CDB_SIZE, CDB_SIZE, true);
  }

  #command(index: number, queue: VirtQueue, chain: DescriptorChain): void {
    const cdbSize = this.#cdbSize;
    const outAt = Request.CDB + cdbSize;
    const inAt = Response.SENSE + this.#senseSize;
    if (chain.readableBytes < outAt || chain.writableBytes < inAt) {
      this.#session?.fail("malformedRequest");
      return;
    }
    this.#counts.commands++;
    const target = targetOf(chain, Request.LUN);
    const unit = target === undefined ? undefined : this.#units[target];
    if (target === undefined || unit === undefined) {
      this.#finish(queue, chain, ResponseCode.BAD_TARGET, undefined, 0);
      return;
    }
    if (chain.readableBytes > outAt && chain.writableBytes > inAt) {
      this.#finish(queue, chain, ResponseCode.FAILURE, undefined, 0); // INOUT is not offered (§5.6.6.1.1)
      return;
    }
    const cdb = this.#cdb;
    cdb.fill(0);
    chain.read(Request.CDB, cdb.subarray(0, cdbSize));
    const data = this.#data.of(chain, outAt, inAt);
    const answer = execute(unit, lunOf(chain, Request.LUN), cdb, data);
    if (answer instanceof Transfer) this.#wait(index, queue, chain, target, answer);
    else this.#end(queue, chain, answer);
  }

  /** The command goes on in the host. */
  #wait(index: number, queue: VirtQueue, chain: DescriptorChain, target: number, transfer: Transfer): void {
    const inAt = Response.SENSE + this.#senseSize;
    const moved = (): void => {
      this.#tasks.delete(task);
      // All of it or some, and though the driver may have reset the queue meanwhile.
      if (chain.writableBytes > inAt) chain.written(inAt, transfer.length);
    };
    const task: Task = {
      queue,
      queueIndex: index,
      chain,
      target,
      idLow: chain.readU32(Request.ID),
      idHigh: chain.readU32(Request.ID + 4),
      ended: undefined,
      done: transfer.operation.then(
        () => {
          moved();
          this.#done(task, transfer);
        },
        (error: unknown) => {
          moved();
          this.#failed(task, transfer, error);
        },
      ),
    };
    this.#tasks.add(task);
  }

  #done({ queue, chain, ended }: Task, transfer: Transfer): void {
    if (!queue.isOpen) return;
    if (ended !== undefined) this.#aborted(queue, chain, ended);
    else this.#finish(queue, chain, ResponseCode.OK, undefined, transfer.length);
    queue.flush();
  }

  #failed({ queue, chain, ended }: Task, transfer: Transfer, error: unknown): void {
    this.#counts.errors++;
    if (!queue.isOpen) return;
    if (ended !== undefined) this.#aborted(queue, chain, ended);
    else if (this.#onError === "stop") {
      this.#isPaused = true; // nothing new until the host has put things right
      queue.unpop(chain);
      this.#stop(error instanceof Error ? error.message : String(error));
      return;
    } else if (this.#onError === "ignore") {
      this.#finish(queue, chain, ResponseCode.OK, undefined, transfer.length);
    } else {
      const sense = isFull(error) ? SENSE.SPACE_ALLOCATION : transfer.failure;
      this.#finish(queue, chain, ResponseCode.OK, sense, 0);
    }
    queue.flush();
  }

  #aborted(queue: VirtQueue, chain: DescriptorChain, response: number): void {
    this.#counts.aborted++;
    this.#finish(queue, chain, response, undefined, 0);
  }

  /** Ends a command whose answer is there. */
  #end(queue: VirtQueue, chain: DescriptorChain, answer: Exclude<Answer, Transfer>): void {
    if (answer === OVERRUN) this.#finish(queue, chain, ResponseCode.OVERRUN, undefined, 0);
    else if (answer instanceof Sense) this.#finish(queue, chain, ResponseCode.OK, answer, 0);
    else {
      const length = chain.write(Response.SENSE + this.#senseSize, answer);
      this.#finish(queue, chain, ResponseCode.OK, undefined, length);
    }
  }

  /** @param moved bytes of data, in whichever direction there is one */
  #finish(
    queue: VirtQueue,
    chain: DescriptorChain,
    response: number,
    sense: Sense | undefined,
    moved: number,
  ): void {
    const inAt = Response.SENSE + this.#senseSize;
    const room = chain.writableBytes - inAt;
    const data = room > 0 ? room : chain.readableBytes - Request.CDB - this.#cdbSize;
    const bytes = sense?.bytes.subarray(0, this.#senseSize);
    if (sense !== undefined) this.#counts.checkConditions++;
    chain.writeU32(Response.SENSE_LEN, bytes?.length ?? 0);
    chain.writeU32(Response.RESIDUAL, Math.max(0, data - moved));
    chain.writeU16(Response.STATUS_QUALIFIER, 0);
    chain.writeU8(Response.STATUS, sense === undefined ? Status.GOOD : Status.CHECK_CONDITION);
    chain.writeU8(Response.RESPONSE, response);
    if (bytes !== undefined) chain.write(Response.SENSE, bytes);
    // All of it counts as written, so that all of it has to be (virtio 1.3 §2.7.8.2).
    const told = bytes?.length ?? 0;
    chain.write(Response.SENSE + told, NO_SENSE.subarray(0, this.#senseSize - told));
    queue.push(chain, inAt + (room > 0 ? moved : 0));
  }

  #control(queue: VirtQueue, chain: DescriptorChain): void {
    const answer = this.#management.answer(chain);
    if (answer === undefined) {
      this.#session?.fail("malformedRequest");
      return;
    }
    const end = (): void => {
      if (queue.isOpen) queue.push(chain, chain.write(0, answer.bytes));
    };
    if (answer.after === undefined) {
      end();
      return;
    }
    const waiting = answer.after.then(() => {
      this.#controls.delete(waiting);
      end();
      queue.flush();
    });
    this.#controls.add(waiting);
  }

  /** Tells the driver of units that have changed (§5.6.6.3), as far as it has buffers. */
  #sendEvents(): void {
    const session = this.#session;
    const queue = session?.features.has(Feature.CHANGE) === true ? session.queue(Queue.EVENT) : undefined;
    if (queue === undefined || this.#isPaused) return;
    for (const target of this.#changed) {
      let chain = queue.pop();
      while (chain === undefined && !queue.enableNotifications()) chain = queue.pop();
      if (chain === undefined) break;
      if (chain.writableBytes < Event.LENGTH) {
        queue.push(chain, 0);
        continue;
      }
      const { asc, ascq } = SENSE.CAPACITY_CHANGED;
      chain.writeU32(Event.EVENT, Event.PARAM_CHANGE);
      chain.write(Event.LUN, Uint8Array.from(addressOf(target)));
      chain.writeU32(Event.REASON, asc | (ascq << 8));
      queue.push(chain, Event.LENGTH);
      this.#changed.delete(target);
    }
    queue.flush();
  }
}

/** Whether the host has no space left for what was to be written. */
function isFull(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && cause.code === "ENOSPC";
}
