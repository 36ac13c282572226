import {
  type Device,
  type DeviceContext,
  type IoHandler,
  type IoWidth,
  NorthbridgeError,
  RestoreError,
} from "@northbridge/sdk";
import { type BarOptions, type PciCapability, PciFunction, pciSpec } from "@northbridge/sdk/pci";
import { type EndpointStateV1, type VirtioDevice, VirtioEndpoint, virtioSpec } from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { LegacyRegisters } from "./legacy-registers.ts";
import { lowBytes } from "./low-bytes.ts";
import {
  Cap,
  CapType,
  CLASS_CODE,
  Common,
  DEVICE_ID_BASE,
  Isr,
  Layout,
  NO_VECTOR,
  OTHER_CLASS,
  REVISION,
  SUBSYSTEM_ID,
  TRANSITIONAL_ID,
  VENDOR_ID,
} from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioPciStateV1 {
  readonly version: 1;
  readonly deviceFeatureSelect: number;
  readonly driverFeatureSelect: number;
  readonly queueSelect: number;
  readonly isr: number;
  readonly configVector: number;
  readonly queueVectors: readonly number[];
  readonly endpoint: EndpointStateV1;
}

interface Regs {
  deviceFeatureSelect: number;
  driverFeatureSelect: number;
  queueSelect: number;
  isr: number;
  configVector: number;
  queueVectors: number[];
}

const powerOn = (queues: number): Regs => ({
  deviceFeatureSelect: 0,
  driverFeatureSelect: 0,
  queueSelect: 0,
  isr: 0,
  configVector: NO_VECTOR,
  queueVectors: new Array<number>(queues).fill(NO_VECTOR),
});

type Context = Pick<DeviceContext, "id" | "mapPorts" | "mapMmio" | "irq" | "msi" | "clock" | "memory">;

export interface VirtioPciOptions {
  readonly ringFeatures?: readonly number[];
  /** Also shows the registers of drivers older than virtio 1.0. @defaultValue false */
  readonly transitional?: boolean;
}

/**
 * A virtio device as a PCI function (virtio 1.3 §4.1): the five vendor capabilities, a vector per queue and one for
 * configuration changes, INTx without them, and on demand the legacy interface. Not modelled: shared memory regions,
 * the administration virtqueue.
 */
export class VirtioPci implements Device {
  readonly function: PciFunction;
  readonly endpoint: VirtioEndpoint;
  readonly monitorCommand?: NonNullable<Device["monitorCommand"]>;
  readonly #device: VirtioDevice;
  #r: Regs;

  constructor(
    ctx: Context,
    device: VirtioDevice,
    { ringFeatures = [], transitional = false }: VirtioPciOptions = {},
  ) {
    const queues = device.queues.length;
    if (queues * Layout.NOTIFY_MULTIPLIER > Layout.PAGE) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${ctx.id}: ${queues} queues, expected at most ${Layout.PAGE / Layout.NOTIFY_MULTIPLIER}`,
      );
    }
    this.#device = device;
    if (device.monitorCommand !== undefined) this.monitorCommand = device.monitorCommand.bind(device);
    this.#r = powerOn(queues);
    this.endpoint = new VirtioEndpoint({
      name: ctx.id,
      device,
      memory: ctx.memory,
      clock: ctx.clock,
      ringFeatures: [virtioSpec.Feature.NOTIFICATION_DATA, ...ringFeatures],
      interrupts: {
        queue: (index) => {
          this.#interrupt(this.#r.queueVectors[index] ?? NO_VECTOR, Isr.QUEUE);
        },
        config: () => {
          this.#interrupt(this.#r.configVector, Isr.CONFIG);
        },
      },
    });
    const transitionalId = TRANSITIONAL_ID[device.deviceId];
    if (transitional && transitionalId === undefined) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${ctx.id}: transitional: expected false, as devices of this kind have no legacy interface`,
      );
    }
    this.function = new PciFunction(ctx, {
      vendorId: VENDOR_ID,
      deviceId: transitional ? (transitionalId ?? 0) : DEVICE_ID_BASE + device.deviceId,
      revision: transitional ? 0 : REVISION,
      classCode: CLASS_CODE[device.deviceId] ?? OTHER_CLASS,
      subsystemVendorId: VENDOR_ID,
      subsystemId: transitional ? device.deviceId : SUBSYSTEM_ID,
      interruptPin: 1,
      msix: { vectors: queues + 1, bar: Layout.MSIX_BAR },
      bars: [
        ...(transitional ? [this.#legacyBar()] : []),
        {
          index: Layout.BAR,
          kind: "memory32",
          length: Layout.LENGTH,
          regions: [
            { offset: Layout.COMMON, length: Common.LENGTH, handler: this.#common },
            { offset: Layout.ISR, length: 4, handler: this.#isr },
            { offset: Layout.DEVICE, length: Layout.PAGE, handler: this.#config },
            { offset: Layout.NOTIFY, length: Layout.PAGE, handler: this.#notifier(queues) },
          ],
        },
      ],
      capabilities: [
        capability(CapType.COMMON, Layout.COMMON, Common.LENGTH),
        capability(
          CapType.NOTIFY,
          Layout.NOTIFY,
          queues * Layout.NOTIFY_MULTIPLIER,
          Layout.NOTIFY_MULTIPLIER,
        ),
        capability(CapType.ISR, Layout.ISR, 1),
        ...(device.config.length > 0
          ? [capability(CapType.DEVICE, Layout.DEVICE, device.config.length)]
          : []),
        this.#pciCfg(),
      ],
    });
  }

  reset(): void {
    this.endpoint.reset();
    this.#r = powerOn(this.#device.queues.length);
    this.#syncIntx();
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

  save(): VirtioPciStateV1 {
    const {
      deviceFeatureSelect,
      driverFeatureSelect,
      queueSelect,
      isr,
      configVector,
      queueVectors,
      ...rest
    } = this.#r;
    rest satisfies Record<string, never>; // a new register must be saved
    return {
      version: 1,
      deviceFeatureSelect,
      driverFeatureSelect,
      queueSelect,
      isr,
      configVector,
      queueVectors: [...queueVectors],
      endpoint: this.endpoint.save(),
    };
  }

  restore(state: unknown): void {
    const saved = state as VirtioPciStateV1;
    expectVersion(this.function.name, saved.version, "virtio-pci");
    if (saved.queueVectors.length !== this.#device.queues.length) {
      throw new RestoreError(
        this.function.name,
        `virtio-pci: ${saved.queueVectors.length} queues, expected ${this.#device.queues.length}`,
      );
    }
    const { version: _, endpoint, queueVectors, ...regs } = saved;
    this.#r = { ...regs, queueVectors: [...queueVectors] };
    this.endpoint.restore(endpoint); // INTx is restored with the configuration space
  }

  readonly #common: IoHandler = {
    read: (offset, width) => lowBytes(this.#readCommon(offset), width),
    write: (offset, _width, value) => {
      this.#writeCommon(offset, value);
    },
  };

  readonly #isr: IoHandler = {
    read: (offset) => {
      return offset === 0 ? this.#takeIsr() : 0;
    },
    write: () => {
      /* read-only */
    },
  };

  readonly #config: IoHandler = {
    read: (offset, width) => this.endpoint.readConfig(offset, width),
    write: (offset, width, value) => {
      this.endpoint.writeConfig(offset, width, value);
    },
  };

  #legacyBar(): BarOptions {
    const handler = new LegacyRegisters({
      endpoint: this.endpoint,
      hasVectors: () => this.function.msix?.isEnabled === true,
      isBusMaster: () => this.function.isBusMaster,
      selected: () => this.#r.queueSelect,
      select: (queue) => {
        this.#r.queueSelect = queue;
      },
      vector: (queue) => (queue < 0 ? this.#r.configVector : this.#r.queueVectors[queue]) ?? NO_VECTOR,
      setVector: (queue, value) => {
        this.#setVector(queue, value);
      },
      takeIsr: () => this.#takeIsr(),
      reset: () => {
        this.reset();
      },
    });
    const length = LegacyRegisters.length(this.#device.config.length);
    return { index: Layout.LEGACY_BAR, kind: "io", length, regions: [{ offset: 0, length, handler }] };
  }

  /** A register per queue; what is written to it does not matter (§4.1.4.4). */
  #notifier(queues: number): IoHandler {
    return {
      doorbells: Array.from({ length: queues }, (_, queue) => ({ offset: queue * Layout.NOTIFY_MULTIPLIER })),
      read: () => 0,
      write: (offset) => {
        // A device that may not read memory has nothing to look for.
        if (this.function.isBusMaster) this.endpoint.notify(Math.floor(offset / Layout.NOTIFY_MULTIPLIER));
      },
    };
  }

  #readCommon(offset: number): number {
    const r = this.#r;
    const { endpoint } = this;
    const queue = endpoint.queues[r.queueSelect];
    switch (offset) {
      case Common.DEVICE_FEATURE_SELECT:
        return r.deviceFeatureSelect;
      case Common.DEVICE_FEATURE:
        return endpoint.offered.word(r.deviceFeatureSelect);
      case Common.DRIVER_FEATURE_SELECT:
        return r.driverFeatureSelect;
      case Common.DRIVER_FEATURE:
        return endpoint.features.word(r.driverFeatureSelect);
      case Common.CONFIG_MSIX_VECTOR:
        return r.configVector;
      case Common.NUM_QUEUES:
        return endpoint.queues.length;
      case Common.DEVICE_STATUS:
        return endpoint.status;
      case Common.CONFIG_GENERATION:
        return endpoint.configGeneration;
      case Common.QUEUE_SELECT:
        return r.queueSelect;
      case Common.QUEUE_SIZE:
        return queue?.size ?? 0; // 0: there is no such queue (§4.1.4.3.2)
      case Common.QUEUE_MSIX_VECTOR:
        return r.queueVectors[r.queueSelect] ?? NO_VECTOR;
      case Common.QUEUE_ENABLE:
        return queue?.isEnabled === true ? 1 : 0;
      case Common.QUEUE_NOTIFY_OFF:
      case Common.QUEUE_NOTIFY_DATA:
        return queue === undefined ? 0 : r.queueSelect;
      case Common.QUEUE_RESET:
        return queue?.isResetting === true ? 1 : 0;
      default: {
        const word = (offset - Common.QUEUE_DESC) / 4;
        return word >= 0 && word < 6 && Number.isInteger(word) ? (queue?.area(word) ?? 0) : 0;
      }
    }
  }

  #writeCommon(offset: number, value: number): void {
    const r = this.#r;
    const { endpoint } = this;
    const queue = endpoint.queues[r.queueSelect];
    switch (offset) {
      case Common.DEVICE_FEATURE_SELECT:
        r.deviceFeatureSelect = value;
        break;
      case Common.DRIVER_FEATURE_SELECT:
        r.driverFeatureSelect = value;
        break;
      case Common.DRIVER_FEATURE:
        endpoint.setFeatures(r.driverFeatureSelect, value);
        break;
      case Common.CONFIG_MSIX_VECTOR:
        this.#setVector(-1, value);
        break;
      case Common.DEVICE_STATUS:
        if ((value & 0xff) === 0) this.reset();
        else endpoint.setStatus(value & 0xff);
        break;
      case Common.QUEUE_SELECT:
        r.queueSelect = value & 0xffff;
        break;
      case Common.QUEUE_SIZE:
        queue?.setSize(value & 0xffff);
        break;
      case Common.QUEUE_MSIX_VECTOR:
        this.#setVector(r.queueSelect, value);
        break;
      case Common.QUEUE_ENABLE:
        if (value === 1) endpoint.enableQueue(r.queueSelect); // 0 is forbidden to the driver
        break;
      case Common.QUEUE_RESET:
        if (value === 1) endpoint.resetQueue(r.queueSelect);
        break;
      default: {
        const word = (offset - Common.QUEUE_DESC) / 4;
        if (word >= 0 && word < 6 && Number.isInteger(word)) queue?.setArea(word, value);
      }
    }
  }

  /** Of a queue, or with -1 of configuration changes. A vector there is not reads back as none (§4.1.5.1.2). */
  #setVector(queue: number, value: number): void {
    const asked = value & 0xffff;
    const vector = asked <= this.#device.queues.length ? asked : NO_VECTOR;
    if (queue < 0) this.#r.configVector = vector;
    else if (queue < this.#r.queueVectors.length) this.#r.queueVectors[queue] = vector;
  }

  #takeIsr(): number {
    const { isr } = this.#r;
    this.#r.isr = 0;
    this.#syncIntx();
    return isr;
  }

  #interrupt(vector: number, cause: number): void {
    if (this.function.msix?.isEnabled === true) {
      this.function.msix.signal(vector);
      return;
    }
    this.#r.isr |= cause;
    this.#syncIntx();
  }

  /** The only place that drives INTx. */
  #syncIntx(): void {
    this.function.setIntx(this.#r.isr !== 0);
  }

  /** Access to the BAR by way of the configuration space (§4.1.4.9). */
  #pciCfg(): PciCapability {
    const plain = capability(CapType.PCI_CFG, 0, 0, 0);
    const writable = new Uint8Array(plain.body.length);
    writable[Cap.BAR] = 0xff;
    writable.fill(0xff, Cap.OFFSET);
    const at = (): { bar: number; offset: number; width: IoWidth | undefined; data: number } => {
      const { config } = this.function;
      const base = this.#pciCfgOffset();
      const length = config.read(base + Cap.LENGTH, 4);
      return {
        bar: config.read(base + Cap.BAR, 1),
        offset: config.read(base + Cap.OFFSET, 4),
        width: length === 1 || length === 2 || length === 4 ? length : undefined,
        data: base + Cap.EXTRA,
      };
    };
    return {
      ...plain,
      writable,
      beforeRead: (offset) => {
        if (offset < Cap.EXTRA) return;
        const { bar, offset: from, width, data } = at();
        if (width !== undefined && from % width === 0) {
          this.function.config.set(data, width, this.function.readBar(bar, from, width));
        }
      },
      afterWrite: (offset) => {
        if (offset < Cap.EXTRA) return;
        const { bar, offset: to, width, data } = at();
        if (width !== undefined && to % width === 0) {
          this.function.writeBar(bar, to, width, this.function.config.read(data, width));
        }
      },
    };
  }

  #cfgAt = 0;

  /** Where the bytes behind the header of the pci_cfg capability are. */
  #pciCfgOffset(): number {
    const { config } = this.function;
    for (let at = config.read(pciSpec.Reg.CAPABILITIES, 1); this.#cfgAt === 0 && at !== 0; ) {
      const isVendor = config.read(at, 1) === pciSpec.CapabilityId.VENDOR;
      if (isVendor && config.read(at + 2 + Cap.TYPE, 1) === CapType.PCI_CFG) this.#cfgAt = at + 2;
      at = config.read(at + 1, 1);
    }
    return this.#cfgAt;
  }
}

/** struct virtio_pci_cap, with one more word where there is one. */
function capability(type: number, offset: number, length: number, extra?: number): PciCapability {
  const body = new Uint8Array(Cap.BODY + (extra === undefined ? 0 : 4));
  const view = new DataView(body.buffer);
  view.setUint8(Cap.LEN, 2 + body.length);
  view.setUint8(Cap.TYPE, type);
  view.setUint8(Cap.BAR, type === CapType.PCI_CFG ? 0 : Layout.BAR);
  view.setUint32(Cap.OFFSET, offset, true);
  view.setUint32(Cap.LENGTH, length, true);
  if (extra !== undefined) view.setUint32(Cap.EXTRA, extra, true);
  return { id: pciSpec.CapabilityId.VENDOR, body };
}
