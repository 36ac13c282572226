import {
  type Device,
  type DeviceContext,
  type Doorbell,
  type InterruptLine,
  type IoHandler,
  type IoWidth,
} from "@northbridge/sdk";
import { type EndpointStateV1, type VirtioDevice, VirtioEndpoint, virtioSpec } from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { Interrupt, MAGIC, Reg, VENDOR_ID, VERSION } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioMmioStateV1 {
  readonly version: 1;
  readonly deviceFeaturesSel: number;
  readonly driverFeaturesSel: number;
  readonly queueSel: number;
  readonly interruptStatus: number;
  readonly endpoint: EndpointStateV1;
}

interface Regs {
  deviceFeaturesSel: number;
  driverFeaturesSel: number;
  queueSel: number;
  interruptStatus: number;
}

const powerOn = (): Regs => ({ deviceFeaturesSel: 0, driverFeaturesSel: 0, queueSel: 0, interruptStatus: 0 });

/**
 * A virtio device behind a page of registers (virtio 1.3 §4.2), version 2, with one level-triggered interrupt. Not
 * modelled: the legacy interface (version 1), shared memory regions.
 */
export class VirtioMmio implements Device, IoHandler {
  readonly endpoint: VirtioEndpoint;
  readonly doorbells: readonly Doorbell[];
  readonly monitorCommand?: NonNullable<Device["monitorCommand"]>;
  readonly #name: string;
  readonly #irq: InterruptLine;
  #r: Regs = powerOn();

  constructor(
    ctx: Pick<DeviceContext, "id" | "memory" | "clock">,
    device: VirtioDevice,
    options: { readonly irq: InterruptLine; readonly ringFeatures?: readonly number[] },
  ) {
    this.#name = ctx.id;
    this.#irq = options.irq;
    this.doorbells = device.queues.map((_, value) => ({ offset: Reg.QUEUE_NOTIFY, width: 4, value }));
    if (device.monitorCommand !== undefined) this.monitorCommand = device.monitorCommand.bind(device);
    this.endpoint = new VirtioEndpoint({
      name: ctx.id,
      device,
      memory: ctx.memory,
      clock: ctx.clock,
      ringFeatures: [virtioSpec.Feature.NOTIFICATION_DATA, ...(options.ringFeatures ?? [])],
      interrupts: {
        queue: () => {
          this.#interrupt(Interrupt.QUEUE);
        },
        config: () => {
          this.#interrupt(Interrupt.CONFIG);
        },
      },
    });
  }

  read(offset: number, width: IoWidth): number {
    if (offset >= Reg.CONFIG) return this.endpoint.readConfig(offset - Reg.CONFIG, width);
    return width === 4 ? this.#readReg(offset) : 0; // 32 bits wide and aligned only (§4.2.2.2)
  }

  write(offset: number, width: IoWidth, value: number): void {
    if (offset >= Reg.CONFIG) this.endpoint.writeConfig(offset - Reg.CONFIG, width, value);
    else if (width === 4) this.#writeReg(offset, value);
  }

  reset(): void {
    this.endpoint.reset();
    this.#r = powerOn();
    this.#sync();
  }

  async pause(): Promise<void> {
    await this.endpoint.pause();
  }

  resume(): void {
    this.endpoint.resume();
  }

  stats(): Record<string, number> {
    return this.endpoint.stats();
  }

  save(): VirtioMmioStateV1 {
    const { deviceFeaturesSel, driverFeaturesSel, queueSel, interruptStatus, ...rest } = this.#r;
    rest satisfies Record<string, never>; // a new register must be saved
    return {
      version: 1,
      deviceFeaturesSel,
      driverFeaturesSel,
      queueSel,
      interruptStatus,
      endpoint: this.endpoint.save(),
    };
  }

  restore(state: unknown): void {
    const { version, endpoint, ...regs } = state as VirtioMmioStateV1;
    expectVersion(this.#name, version, "virtio-mmio");
    this.#r = { ...regs };
    this.endpoint.restore(endpoint);
    this.#irq.adopt(this.#r.interruptStatus !== 0);
  }

  #readReg(offset: number): number {
    const r = this.#r;
    const { endpoint } = this;
    const queue = endpoint.queues[r.queueSel];
    switch (offset) {
      case Reg.MAGIC_VALUE:
        return MAGIC;
      case Reg.VERSION:
        return VERSION;
      case Reg.DEVICE_ID:
        return endpoint.device.deviceId;
      case Reg.VENDOR_ID:
        return VENDOR_ID;
      case Reg.DEVICE_FEATURES:
        return endpoint.offered.word(r.deviceFeaturesSel);
      case Reg.QUEUE_NUM_MAX:
        return queue?.maxSize ?? 0;
      case Reg.QUEUE_READY:
        return queue?.isEnabled === true ? 1 : 0;
      case Reg.INTERRUPT_STATUS:
        return r.interruptStatus;
      case Reg.STATUS:
        return endpoint.status;
      case Reg.QUEUE_RESET:
        return queue?.isResetting === true ? 1 : 0;
      case Reg.CONFIG_GENERATION:
        return endpoint.configGeneration;
      default:
        // A shared memory region that is not there has length and base -1 (§4.2.2.1).
        return offset >= Reg.SHM_LEN_LOW && offset <= Reg.SHM_BASE_HIGH ? 0xffff_ffff : 0;
    }
  }

  #writeReg(offset: number, value: number): void {
    const r = this.#r;
    const { endpoint } = this;
    const queue = endpoint.queues[r.queueSel];
    switch (offset) {
      case Reg.DEVICE_FEATURES_SEL:
        r.deviceFeaturesSel = value;
        break;
      case Reg.DRIVER_FEATURES:
        endpoint.setFeatures(r.driverFeaturesSel, value);
        break;
      case Reg.DRIVER_FEATURES_SEL:
        r.driverFeaturesSel = value;
        break;
      case Reg.QUEUE_SEL:
        r.queueSel = value;
        break;
      case Reg.QUEUE_NUM:
        queue?.setSize(value);
        break;
      case Reg.QUEUE_READY:
        if (value === 1) endpoint.enableQueue(r.queueSel);
        else if (value === 0) endpoint.disableQueue(r.queueSel);
        break;
      case Reg.QUEUE_NOTIFY:
        endpoint.notify(value & 0xffff); // the rest is NOTIFICATION_DATA's
        break;
      case Reg.INTERRUPT_ACK:
        r.interruptStatus &= ~value;
        this.#sync();
        break;
      case Reg.STATUS:
        if (value === 0) this.reset();
        else endpoint.setStatus(value & 0xff);
        break;
      case Reg.QUEUE_RESET:
        if (value === 1) endpoint.resetQueue(r.queueSel);
        break;
      default:
        this.#writeArea(offset, value);
    }
  }

  #writeArea(offset: number, value: number): void {
    const queue = this.endpoint.queues[this.#r.queueSel];
    for (const [area, base] of [Reg.QUEUE_DESC, Reg.QUEUE_DRIVER, Reg.QUEUE_DEVICE].entries()) {
      if (offset === base || offset === base + 4) queue?.setArea(2 * area + (offset - base) / 4, value);
    }
  }

  #interrupt(cause: number): void {
    this.#r.interruptStatus |= cause;
    this.#sync();
  }

  /** The only place that drives the line. */
  #sync(): void {
    this.#irq.set(this.#r.interruptStatus !== 0);
  }
}
