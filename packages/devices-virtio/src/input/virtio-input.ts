import { type IoWidth, RestoreError } from "@northbridge/sdk";
import { serve, type VirtioDevice, type VirtioSession, virtioSpec } from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { describe, has, type InputKind } from "./capabilities.ts";
import { carryOut } from "./commands.ts";
import type { InputEvent } from "./input-event.ts";
import { Config, Ev, Event, LEDS, MAX_PENDING, Queue, SYN_REPORT } from "./spec.ts";

const QUEUE_SIZE = 64;

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioInputStateV1 {
  readonly version: 1;
  /** Events the driver had no buffers for, oldest first. */
  readonly pending: readonly InputEvent[];
  /** Bit n: the guest has turned LED n on. */
  readonly leds: number;
}

/**
 * Input device (virtio 1.3 §5.8): a keyboard, a mouse, or a tablet, whose coordinates are absolute. Events wait while
 * the driver has no buffers; of too many the latest are lost, a report at a time.
 */
export class VirtioInput implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.INPUT;
  readonly features: readonly number[] = [];
  readonly queues: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly kind: InputKind;
  readonly #serial: string;
  readonly #counts = { events: 0, lost: 0 };
  #pending: InputEvent[] = [];
  #leds = 0;
  #session: VirtioSession | undefined;
  #isPaused = false;

  constructor(options: { readonly kind: InputKind; readonly serial?: string }) {
    this.kind = options.kind;
    this.#serial = options.serial ?? "";
  }

  /** The lights that the guest has turned on. */
  get leds(): readonly string[] {
    return LEDS.filter((_, index) => (this.#leds & (1 << index)) !== 0);
  }

  /**
   * Sends events as one report. Events that this kind of device does not have are left out. False where they are lost:
   * there is no driver, or it has left too many waiting.
   */
  report(events: readonly InputEvent[]): boolean {
    const known = events.filter(([type, code]) => has(this.kind, type, code));
    if (this.#session === undefined || this.#pending.length + known.length + 1 > MAX_PENDING) {
      this.#counts.lost += known.length;
      return false;
    }
    if (known.length === 0) return true;
    this.#pending.push(...known, [Ev.SYN, SYN_REPORT, 0]);
    this.#send();
    return true;
  }

  /** `press KEY…`, `release KEY…`, `tap KEY…`, `type TEXT`, `move DX DY`, `at X Y`, `wheel N`, `leds`. */
  monitorCommand(words: readonly string[]): Promise<string> {
    return Promise.resolve(carryOut(this, words));
  }

  writeConfig(offset: number, width: IoWidth, value: number): void {
    // Selection and sub-selection are a byte each, and may be written at once.
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      if (at === Config.SELECT || at === Config.SUBSEL) this.config[at] = (value >>> (8 * i)) & 0xff;
    }
    const { kind, config } = this;
    const data = describe(kind, this.#serial, config[Config.SELECT] ?? 0, config[Config.SUBSEL] ?? 0);
    config.fill(0, Config.SIZE);
    config[Config.SIZE] = Math.min(data.length, Config.MAX_DATA);
    config.set(data.subarray(0, Config.MAX_DATA), Config.DATA);
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    const queue = this.#session?.queue(index);
    if (queue === undefined) return;
    if (index === Queue.EVENT) {
      this.#send();
      return;
    }
    serve(queue, (chain) => {
      const code = chain.readU16(Event.CODE);
      if (chain.readableBytes >= Event.LENGTH && chain.readU16(Event.TYPE) === Ev.LED && code < LEDS.length) {
        const isOn = chain.readU32(Event.VALUE) !== 0;
        this.#leds = isOn ? this.#leds | (1 << code) : this.#leds & ~(1 << code);
      }
      queue.push(chain, 0);
    });
  }

  reset(): void {
    this.#session = undefined;
    this.#pending = [];
    this.#leds = 0;
    this.config.fill(0);
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#send();
  }

  stats(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  save(): VirtioInputStateV1 {
    return { version: 1, pending: [...this.#pending], leds: this.#leds };
  }

  restore(state: unknown): void {
    const { version, pending, leds } = state as VirtioInputStateV1;
    expectVersion("virtioInput", version);
    if (pending.length > MAX_PENDING) {
      throw new RestoreError("virtioInput", `${pending.length} events, expected at most ${MAX_PENDING}`);
    }
    this.#pending = [...pending];
    this.#leds = leds;
  }

  /** Hands over what waits, as far as the driver has buffers. */
  #send(): void {
    const queue = this.#session?.queue(Queue.EVENT);
    if (queue === undefined || this.#isPaused) return;
    let sent = 0;
    while (sent < this.#pending.length) {
      const chain = queue.pop();
      if (chain === undefined) {
        if (queue.enableNotifications()) break;
        continue;
      }
      if (chain.writableBytes < Event.LENGTH) {
        queue.push(chain, 0);
        continue;
      }
      const [type, code, value] = this.#pending[sent++] ?? [Ev.SYN, SYN_REPORT, 0];
      chain.writeU16(Event.TYPE, type);
      chain.writeU16(Event.CODE, code);
      chain.writeU32(Event.VALUE, value >>> 0);
      queue.push(chain, Event.LENGTH);
    }
    this.#pending.splice(0, sent);
    this.#counts.events += sent;
    queue.flush();
  }
}
