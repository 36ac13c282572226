import { AsyncLocalStorage } from "node:async_hooks";
import {
  Console,
  type Device,
  type DeviceContext,
  expectFirmwareEntry,
  type FirmwareEntry,
  HostEnds,
  type IoHandler,
  type IoRegion,
  type MemorySlot,
  NorthbridgeError,
  type Token,
  type Unmap,
} from "../contracts/index.ts";
import { describeRegion } from "../bus/access-log.ts";
import type { AddressSpaces, ComposedDevice, DeviceServices } from "./device-services.ts";
import type { PlannedDevice } from "./device-order.ts";
import { describeData, DevicePlace } from "./device-place.ts";
import { GuardedClock, guardedDevice, guardOf, setupFault } from "./guarded-device.ts";
import { type Guard, guardedChar, guardedEnds } from "./guarded-ends.ts";
import { located } from "./host-end-opener.ts";
import type { ServiceContainer } from "./service-container.ts";

/** Accesses to memory reach no device: its region there would never answer. Throws `NB_REGION_OVERLAP`. */
function refuseMemory(region: IoRegion, slots: readonly MemorySlot[]): void {
  const { base, length } = region;
  const slot = slots.find(({ gpa, length: bytes }) => base < gpa + bytes && gpa < base + length);
  if (slot === undefined) return;
  throw new NorthbridgeError(
    "NB_REGION_OVERLAP",
    `${describeRegion(region)} overlaps memory: ${describeRegion({ ...slot, base: slot.gpa })}`,
  );
}

/** The devices of one machine, set up in order; closing runs what they registered, last first. */
export class DeviceSet {
  readonly #services: DeviceServices;
  readonly #container: ServiceContainer;
  readonly #devices: ComposedDevice[] = [];
  readonly #firmware: FirmwareEntry[] = [];
  readonly #closers: (() => void | Promise<void>)[] = [];
  /** Whose code runs, and what it leaves for later: of `setup`, calls of the machine and timers. */
  readonly #atWork = new AsyncLocalStorage<string>();

  constructor(services: DeviceServices, container: ServiceContainer) {
    this.#services = services;
    this.#container = container;
  }

  get devices(): readonly ComposedDevice[] {
    return this.#devices;
  }

  get firmware(): readonly FirmwareEntry[] {
    return this.#firmware;
  }

  /** The device whose code runs, or began what does. Not of accesses and frames: to know that costs a quarter of a µs. */
  get atWork(): string | undefined {
    return this.#atWork.getStore();
  }

  /** @param ownMemory what the device's plugin asked for */
  async setUp(planned: PlannedDevice, ownMemory?: MemorySlot): Promise<void> {
    const accesses = { ports: { reads: 0, writes: 0 }, mmio: { reads: 0, writes: 0 } };
    const place = new DevicePlace();
    const context = { ...this.#contextOf(planned, accesses, place), ownMemory };
    let device: Device;
    try {
      device = await this.#atWork.run(planned.id, () => planned.spec.setup(context, planned.config as never));
    } catch (error) {
      throw located(setupFault(planned.id, error), planned.where);
    }
    this.#devices.push({
      id: planned.id,
      plugin: planned.spec.name,
      device: guardedDevice(device, planned.id, (call) => this.#atWork.run(planned.id, call)),
      place: place.close(),
      accesses,
    });
  }

  /** Runs every closer even if one throws; the first error is thrown at the end. */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const close of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  #contextOf(
    planned: PlannedDevice,
    accesses: ComposedDevice["accesses"],
    place: DevicePlace,
  ): DeviceContext {
    const services = this.#services;
    const container = this.#container;
    const owner = `device ${planned.id} (${planned.spec.name})`;
    const guard = guardOf(planned.id, (fault) => {
      services.onFault(fault);
    });
    const timerGuard: Guard = (what, callback, instead) =>
      guard(what, (...args) => this.#atWork.run(planned.id, callback, ...args), instead);
    const ends = guardedEnds(services.hostEnds.endsOf(planned), guard);
    const own = <T>(token: Token<T>): T | undefined => {
      if ((token as symbol) === HostEnds) return ends as T;
      return (token as symbol) === Console
        ? (guardedChar(container.get(Console, owner), guard) as T)
        : undefined;
    };
    const map =
      (space: keyof AddressSpaces) =>
      (region: Omit<IoRegion, "name"> & { readonly name?: string }, handler: IoHandler): Unmap => {
        const named = { ...region, name: region.name ?? planned.id };
        if (space === "mmio") refuseMemory(named, services.memory.slots);
        const unmap = services.spaces[space].map(named, handler, accesses[space]);
        const forget = place.note(`${space} ${describeRegion(named)}`);
        return () => {
          forget();
          unmap();
        };
      };
    return {
      id: planned.id,
      clock: new GuardedClock(services.clock, timerGuard),
      memory: services.memory,
      power: services.power,
      msi: services.msi,
      get: <T>(token: Token<T>): T => own(token) ?? container.get(token, owner),
      find: <T>(token: Token<T>): T | undefined => own(token) ?? container.find(token),
      provide: <T>(token: Token<T>, value: T): void => {
        container.provide(token, value, owner);
      },
      mapPorts: map("ports"),
      mapMmio: map("mmio"),
      irq: (gsi) => {
        place.note(`GSI ${gsi}`);
        return services.irq(gsi);
      },
      describe: (entry) => {
        expectFirmwareEntry(entry);
        place.note(describeData(entry));
        this.#firmware.push(entry);
      },
      onClose: (fn) => {
        this.#closers.push(fn);
      },
    };
  }
}
