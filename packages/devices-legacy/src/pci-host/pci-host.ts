import {
  type IoHandler,
  type IoWidth,
  NorthbridgeError,
  type PowerControl,
  type Resettable,
  RestoreError,
  type Snapshottable,
} from "@northbridge/sdk";
import type { PciBus, PciFunction, PciFunctionStateV1, PciSlot } from "@northbridge/sdk/pci";
import * as v from "valibot";
import { parseState, type StateSchema, u32, u8 } from "../state-schema.ts";
import { ConfigAddress, DEVICES, ECAM_BUS, ECAM_FUNCTION, FUNCTIONS, Port, ResetControl } from "./spec.ts";

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface PciHostStateV1 {
  readonly version: 1;
  readonly address: number;
  readonly resetControl: number;
  /** Configuration spaces of everything on the bus. */
  readonly functions: readonly {
    readonly name: string;
    readonly slot: PciSlot;
    readonly state: PciFunctionStateV1;
  }[];
}

const FunctionState = v.looseObject({ version: v.number() }) as unknown as StateSchema<PciFunctionStateV1>;
const State: StateSchema<PciHostStateV1> = v.strictObject({
  version: v.literal(1),
  address: u32,
  resetControl: u8,
  functions: v.array(
    v.strictObject({
      name: v.string(),
      slot: v.strictObject({ device: u8, function: u8 }),
      state: FunctionState,
    }),
  ),
});

/** What the root is wired to. */
export interface PciHostDeps {
  readonly power: Pick<PowerControl, "reset">;
  /** INTx of device `d`, pin `p` (INTA is 0) goes to GSI `gsiBase + (d + p) % gsiCount`. */
  readonly intx: { readonly gsiBase: number; readonly gsiCount: number };
}

/**
 * PCI root with one bus: configuration mechanism 1 on ports 0xCF8–0xCFF (`ports`), ECAM (`ecam`), and the chipset's
 * reset control register, which shares port 0xCF9. It owns the functions' configuration spaces: resets, saves and
 * restores them. Not modelled: bridges (all buses but 0 are empty), hot plug, error reporting.
 */
export class PciHost implements PciBus, Resettable, Snapshottable<PciHostStateV1> {
  readonly #power: Pick<PowerControl, "reset">;
  readonly #intx: PciHostDeps["intx"];
  readonly #functions: (PciFunction | undefined)[] = new Array<PciFunction | undefined>(
    DEVICES * FUNCTIONS,
  ).fill(undefined);
  #address = 0;
  #resetControl = 0;
  readonly ports: IoHandler = {
    read: (offset, width) => this.#readPort(offset, width),
    write: (offset, width, value) => {
      this.#writePort(offset, width, value);
    },
  };
  readonly ecam: IoHandler = {
    read: (offset, width) => {
      const fn = offset < ECAM_BUS ? this.#functions[Math.floor(offset / ECAM_FUNCTION)] : undefined;
      return fn === undefined ? ones(width) : fn.configRead(offset % ECAM_FUNCTION, width);
    },
    write: (offset, width, value) => {
      if (offset < ECAM_BUS)
        this.#configWrite(Math.floor(offset / ECAM_FUNCTION), offset % ECAM_FUNCTION, width, value);
    },
  };

  constructor(deps: PciHostDeps) {
    this.#power = deps.power;
    this.#intx = deps.intx;
  }

  attach(fn: PciFunction, wanted: Partial<PciSlot> = {}): PciSlot {
    const device = wanted.device ?? this.#lowestFree();
    const slot: PciSlot = { device, function: wanted.function ?? 0 };
    const inRange = device >= 0 && device < DEVICES && slot.function >= 0 && slot.function < FUNCTIONS;
    if (!inRange || !Number.isInteger(device) || !Number.isInteger(slot.function)) {
      throw new NorthbridgeError("NB_CONFIG", `${fn.name}: no PCI slot ${name(slot)}: expected 00.0 to 1f.7`);
    }
    const taken = this.#functions[devfn(slot)];
    if (taken !== undefined) {
      throw new NorthbridgeError("NB_CONFIG", `${fn.name}: PCI slot ${name(slot)} is taken by ${taken.name}`);
    }
    this.#functions[devfn(slot)] = fn;
    const pin = fn.interruptPin - 1;
    fn.connect(pin < 0 ? undefined : this.#intx.gsiBase + ((device + pin) % this.#intx.gsiCount));
    return slot;
  }

  reset(): void {
    this.#address = 0;
    this.#resetControl = 0;
    for (const fn of this.#functions) fn?.reset();
  }

  save(): PciHostStateV1 {
    const functions: PciHostStateV1["functions"][number][] = [];
    this.#functions.forEach((fn, index) => {
      if (fn !== undefined) functions.push({ name: fn.name, slot: slotOf(index), state: fn.save() });
    });
    return { version: 1, address: this.#address, resetControl: this.#resetControl, functions };
  }

  restore(state: PciHostStateV1): void {
    const { address, resetControl, functions } = parseState("pciHost", State, state);
    const own = this.save().functions;
    for (const { name: saved, slot } of functions) {
      if (this.#functions[devfn(slot)]?.name !== saved) {
        throw new RestoreError(
          "pciHost",
          `slot ${name(slot)} holds ${this.#functions[devfn(slot)]?.name ?? "nothing"}, expected ${saved}`,
        );
      }
    }
    if (own.length !== functions.length) {
      throw new RestoreError("pciHost", `${functions.length} functions saved, expected ${own.length}`);
    }
    this.#address = address;
    this.#resetControl = resetControl;
    for (const { slot, state: saved } of functions) this.#functions[devfn(slot)]?.restore(saved);
    this.#settleConflicts();
  }

  #readPort(offset: number, width: IoWidth): number {
    if (offset >= Port.CONFIG_DATA) {
      if ((this.#address & ConfigAddress.ENABLE) === 0 || (this.#address & ConfigAddress.BUS) !== 0)
        return ones(width);
      const register = (this.#address & 0xfc) + (offset - Port.CONFIG_DATA);
      return this.#functions[(this.#address >> 8) & 0xff]?.configRead(register, width) ?? ones(width);
    }
    if (offset === Port.CONFIG_ADDRESS && width === 4) return this.#address >>> 0;
    if (offset === Port.RESET_CONTROL && width === 1) return this.#resetControl;
    return ones(width); // CONFIG_ADDRESS is a doubleword only (§3.2.2.3.2)
  }

  #writePort(offset: number, width: IoWidth, value: number): void {
    if (offset >= Port.CONFIG_DATA) {
      if ((this.#address & ConfigAddress.ENABLE) === 0 || (this.#address & ConfigAddress.BUS) !== 0) return;
      const register = (this.#address & 0xfc) + (offset - Port.CONFIG_DATA);
      this.#configWrite((this.#address >> 8) & 0xff, register, width, value);
    } else if (offset === Port.CONFIG_ADDRESS && width === 4) {
      this.#address = (value & ConfigAddress.WRITABLE) >>> 0;
    } else if (offset === Port.RESET_CONTROL && width === 1) {
      const rises = (value & ~this.#resetControl & ResetControl.RST_CPU) !== 0;
      this.#resetControl = value & ResetControl.WRITABLE;
      if (rises) this.#power.reset();
    }
  }

  #configWrite(index: number, register: number, width: IoWidth, value: number): void {
    const fn = this.#functions[index];
    if (fn === undefined) return;
    fn.configWrite(register, width, value);
    this.#settleConflicts();
  }

  /** A BAR that moved away may have freed the place another one wants. */
  #settleConflicts(): void {
    for (const fn of this.#functions) if (fn?.hasConflict === true) fn.remap();
  }

  #lowestFree(): number {
    for (let device = 0; device < DEVICES; device++) {
      const first = device * FUNCTIONS;
      if (this.#functions.slice(first, first + FUNCTIONS).every((fn) => fn === undefined)) return device;
    }
    throw new NorthbridgeError("NB_CONFIG", `the PCI bus is full: ${DEVICES} devices`);
  }
}

const devfn = (slot: PciSlot): number => slot.device * FUNCTIONS + slot.function;
const slotOf = (index: number): PciSlot => ({ device: index >> 3, function: index & 7 });
const name = (slot: PciSlot): string => `${slot.device.toString(16).padStart(2, "0")}.${slot.function}`;

function ones(width: IoWidth): number {
  return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
}
