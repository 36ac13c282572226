import {
  type DeviceContext,
  type InterruptLine,
  type IoWidth,
  NorthbridgeError,
  RestoreError,
} from "@northbridge/core/contracts";
import { type BarOptions, BarWindow, checkBars } from "./bar.ts";
import { ConfigSpace } from "./config-space.ts";
import { MsixTable, type MsixTableStateV1 } from "./msix-table.ts";
import { CapabilityId, Command, CONFIG_LENGTH, HeaderType, Msi, Msix, Reg, Status } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface PciFunctionStateV1 {
  readonly version: 1;
  /** All 256 bytes. */
  readonly config: readonly number[];
  /** INTx as the device asserts it. */
  readonly intx: boolean;
  readonly msix: MsixTableStateV1 | null;
}

/** A vendor's own capability, for instance virtio's. */
export interface PciCapability {
  readonly id: number;
  /** Everything behind the ID and the next pointer. */
  readonly body: Uint8Array;
  /** Bits of `body` that the guest may write. */
  readonly writable?: Uint8Array;
  /** Called before the guest reads bytes of `body`: the device may refresh them. */
  readonly beforeRead?: (offset: number, width: IoWidth) => void;
  /** Called after the guest wrote to `body`. */
  readonly afterWrite?: (offset: number, width: IoWidth) => void;
}

/** The header of a PCI function, and what it can do (PCI 3.0 §6). */
export interface PciFunctionOptions {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revision?: number;
  /** 24 bits: base class, subclass, interface. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** INTA is 1. @defaultValue no INTx */
  readonly interruptPin?: 1 | 2 | 3 | 4;
  readonly isMultiFunction?: boolean;
  readonly bars?: readonly BarOptions[];
  /** MSI-X with a BAR of its own. */
  readonly msix?: { readonly vectors: number; readonly bar: number };
  /** Message-signalled interrupt with one message. */
  readonly msi?: boolean;
  readonly capabilities?: readonly PciCapability[];
}

/** What a function needs of its device's context. */
export type PciFunctionContext = Pick<DeviceContext, "id" | "mapPorts" | "mapMmio" | "irq" | "msi">;

interface PlacedCapability extends PciCapability {
  /** Of `body`. */
  readonly offset: number;
}

/**
 * One PCI function with a type 0 header (PCI 3.0 §6): BARs that follow the guest on the port and MMIO buses,
 * capabilities, MSI, MSI-X and INTx. Not modelled: expansion ROM, power management, error reporting, PCI Express.
 */
export class PciFunction {
  readonly name: string;
  readonly config: ConfigSpace = new ConfigSpace();
  readonly msix: MsixTable | undefined;
  readonly interruptPin: number;
  readonly #ctx: PciFunctionContext;
  readonly #bars: readonly BarWindow[];
  readonly #capabilities: PlacedCapability[] = [];
  #msiOffset = 0;
  #msixOffset = 0;
  #next: number = Reg.DEVICE_SPECIFIC;
  #lastPointer: number = Reg.CAPABILITIES;
  #line: InterruptLine | undefined;
  #intx = false;

  constructor(ctx: PciFunctionContext, options: PciFunctionOptions) {
    this.name = ctx.id;
    this.#ctx = ctx;
    this.interruptPin = options.interruptPin ?? 0;
    const bars = [...(options.bars ?? [])];
    if (options.msix !== undefined) {
      this.msix = new MsixTable({ vectors: options.msix.vectors, msi: ctx.msi });
      bars.push(this.msix.bar(options.msix.bar));
    }
    checkBars(ctx.id, bars);
    this.#bars = bars.map(
      (bar) =>
        new BarWindow(`${ctx.id}.bar${bar.index}`, bar, (region, handler) =>
          bar.kind === "io" ? ctx.mapPorts(region, handler) : ctx.mapMmio(region, handler),
        ),
    );
    this.#declareHeader(options);
    for (const bar of this.#bars) bar.declare(this.config);
    if (this.msix !== undefined && options.msix !== undefined) this.#declareMsix(this.msix, options.msix.bar);
    if (options.msi === true) this.#declareMsi();
    for (const capability of options.capabilities ?? []) this.#place(capability);
    this.config.seal();
  }

  /** For the bus: INTx of this function goes to `gsi`. */
  connect(gsi: number | undefined): void {
    this.#line = gsi === undefined ? undefined : this.#ctx.irq(gsi);
  }

  /** A guest's read. Offsets behind 255 are not there. */
  configRead(offset: number, width: IoWidth): number {
    if (offset + width > CONFIG_LENGTH) return width === 4 ? 0xffff_ffff : 2 ** (8 * width) - 1;
    const capability = this.#capabilityAt(offset);
    capability?.beforeRead?.(offset - capability.offset, width);
    const value = this.config.read(offset, width);
    const covers = offset <= Reg.STATUS && offset + width > Reg.STATUS;
    if (!covers || !this.#intx) return value;
    return (value | (Status.INTERRUPT << (8 * (Reg.STATUS - offset)))) >>> 0;
  }

  configWrite(offset: number, width: IoWidth, value: number): void {
    if (offset + width > CONFIG_LENGTH) return;
    this.config.write(offset, width, value);
    if (offset < Reg.BAR0 + 24 && offset + width > Reg.COMMAND) this.remap();
    if (this.#msixOffset > 0 && offset + width > this.#msixOffset && offset < this.#msixOffset + Msix.TABLE) {
      this.msix?.control(this.#msixControl);
    }
    const capability = this.#capabilityAt(offset);
    capability?.afterWrite?.(offset - capability.offset, width);
    this.#sync();
  }

  /** Asserts or drops INTx. The guest sees it in Status; the line follows unless disabled or MSI is in use. */
  setIntx(level: boolean): void {
    this.#intx = level;
    this.#sync();
  }

  /** Sends the MSI message. False while MSI is off. */
  signalMsi(): boolean {
    if (!this.#msiEnabled) return false;
    const at = this.#msiOffset;
    if (this.config.read(at + Msi.ADDRESS_HIGH, 4) !== 0) return true; // not the processors' window
    this.#ctx.msi.signal(this.config.read(at + Msi.ADDRESS_LOW, 4), this.config.read(at + Msi.DATA, 2));
    return true;
  }

  /** Whether the function may read and write guest memory. */
  get isBusMaster(): boolean {
    return (this.config.read(Reg.COMMAND, 2) & Command.MASTER) !== 0;
  }

  /** Makes the BARs follow the header. */
  remap(): void {
    for (const bar of this.#bars) bar.sync(this.config);
  }

  /** A BAR could not be mapped because something else is there. */
  get hasConflict(): boolean {
    return this.#bars.some((bar) => bar.hasConflict);
  }

  /** An access by way of a capability (virtio 1.3 §4.1.4.9). Outside of the BAR it reads as zero. */
  readBar(index: number, offset: number, width: IoWidth): number {
    const bar = this.#bars.find((window) => window.index === index);
    return bar !== undefined && offset + width <= bar.options.length ? bar.read(offset, width) : 0;
  }

  writeBar(index: number, offset: number, width: IoWidth, value: number): void {
    const bar = this.#bars.find((window) => window.index === index);
    if (bar !== undefined && offset + width <= bar.options.length) bar.write(offset, width, value);
  }

  /** Where a BAR answers now; undefined while the guest has it off. */
  barBase(index: number): number | undefined {
    return this.#bars.find((window) => window.index === index)?.base;
  }

  /** Returns to the power-on state. For the bus. */
  reset(): void {
    this.#intx = false;
    this.config.reset();
    this.msix?.reset();
    this.remap();
    this.#sync();
  }

  save(): PciFunctionStateV1 {
    return { version: 1, config: this.config.save(), intx: this.#intx, msix: this.msix?.save() ?? null };
  }

  /** Throws `RestoreError` for the state of another kind of function. */
  restore(state: PciFunctionStateV1): void {
    const found = state as { readonly version: unknown };
    if (found.version !== 1)
      throw new RestoreError(this.name, `pci: version ${String(found.version)}, expected 1`);
    this.#checkIdentity(state.config);
    if ((state.msix === null) !== (this.msix === undefined))
      throw new RestoreError(this.name, "pci: MSI-X differs");
    this.config.restore(state.config);
    this.#intx = state.intx;
    if (state.msix !== null) this.msix?.restore(this.name, state.msix, this.#msixControl);
    this.remap();
    this.#line?.adopt(this.#intxLevel);
  }

  #checkIdentity(config: readonly number[]): void {
    if (
      config.length !== CONFIG_LENGTH ||
      !config.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256)
    ) {
      throw new RestoreError(this.name, `pci: config is not ${CONFIG_LENGTH} bytes`);
    }
    for (const offset of [
      Reg.VENDOR_ID,
      Reg.DEVICE_ID,
      Reg.REVISION_ID,
      Reg.CLASS_CODE + 1,
      Reg.SUBSYSTEM_ID,
    ]) {
      const value = (config[offset] ?? 0) | ((config[offset + 1] ?? 0) << 8);
      const own = this.config.read(offset, 2);
      if (value === own) continue;
      throw new RestoreError(
        this.name,
        `pci: config word 0x${offset.toString(16)} is 0x${value.toString(16)}, expected 0x${own.toString(16)}`,
      );
    }
  }

  #declareHeader(options: PciFunctionOptions): void {
    const { config } = this;
    config.set(Reg.VENDOR_ID, 2, options.vendorId);
    config.set(Reg.DEVICE_ID, 2, options.deviceId);
    config.set(Reg.REVISION_ID, 4, (options.classCode << 8) | (options.revision ?? 0));
    config.set(
      Reg.HEADER_TYPE,
      1,
      options.isMultiFunction === true ? HeaderType.MULTI_FUNCTION : HeaderType.NORMAL,
    );
    config.set(Reg.SUBSYSTEM_VENDOR_ID, 2, options.subsystemVendorId ?? 0);
    config.set(Reg.SUBSYSTEM_ID, 2, options.subsystemId ?? 0);
    config.set(Reg.INTERRUPT_PIN, 1, this.interruptPin);
    config.allow(Reg.COMMAND, 2, Command.WRITABLE);
    config.allow(Reg.CACHE_LINE_SIZE, 2, 0xffff);
    config.allow(Reg.INTERRUPT_LINE, 1, 0xff);
  }

  #declareMsix(table: MsixTable, bar: number): void {
    const body = new Uint8Array(Msix.LENGTH - 2);
    const view = new DataView(body.buffer);
    view.setUint16(Msix.CONTROL - 2, table.vectors - 1, true);
    view.setUint32(Msix.TABLE - 2, bar, true);
    view.setUint32(Msix.PBA - 2, table.pbaOffset | bar, true);
    this.#msixOffset = this.#place({ id: CapabilityId.MSIX, body });
    this.config.allow(this.#msixOffset + Msix.CONTROL, 2, Msix.ENABLE | Msix.FUNCTION_MASK);
  }

  #declareMsi(): void {
    const body = new Uint8Array(Msi.LENGTH - 2);
    body[Msi.CONTROL - 2] = Msi.ADDRESS_64;
    this.#msiOffset = this.#place({ id: CapabilityId.MSI, body });
    this.config.allow(this.#msiOffset + Msi.CONTROL, 2, Msi.ENABLE);
    this.config.allow(this.#msiOffset + Msi.ADDRESS_LOW, 4, 0xffff_fffc);
    this.config.allow(this.#msiOffset + Msi.ADDRESS_HIGH, 4, 0xffff_ffff);
    this.config.allow(this.#msiOffset + Msi.DATA, 2, 0xffff);
  }

  /** Appends to the capability list. Returns the offset of the capability. */
  #place(capability: PciCapability): number {
    const at = this.#next;
    const length = 2 + capability.body.length;
    if (at + length > CONFIG_LENGTH) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${this.name}: capabilities need more than ${CONFIG_LENGTH} bytes`,
      );
    }
    this.config.set(at, 1, capability.id);
    this.config.setBytes(at + 2, capability.body);
    capability.writable?.forEach((mask, i) => {
      this.config.allow(at + 2 + i, 1, mask);
    });
    this.config.set(this.#lastPointer, 1, at);
    this.config.set(Reg.STATUS, 2, Status.CAPABILITIES);
    this.#lastPointer = at + 1;
    this.#next = (at + length + 3) & ~3;
    if (capability.beforeRead !== undefined || capability.afterWrite !== undefined) {
      this.#capabilities.push({ ...capability, offset: at + 2 });
    }
    return at;
  }

  #capabilityAt(offset: number): PlacedCapability | undefined {
    for (const capability of this.#capabilities) {
      if (offset >= capability.offset && offset < capability.offset + capability.body.length)
        return capability;
    }
    return undefined;
  }

  /** The only place that drives the line. */
  #sync(): void {
    this.#line?.set(this.#intxLevel);
  }

  get #intxLevel(): boolean {
    const isDisabled = (this.config.read(Reg.COMMAND, 2) & Command.INTX_DISABLE) !== 0;
    return this.#intx && !isDisabled && !this.#msiEnabled && this.msix?.isEnabled !== true;
  }

  get #msixControl(): number {
    return this.config.read(this.#msixOffset + Msix.CONTROL, 2);
  }

  get #msiEnabled(): boolean {
    return this.#msiOffset > 0 && (this.config.read(this.#msiOffset + Msi.CONTROL, 2) & Msi.ENABLE) !== 0;
  }
}
