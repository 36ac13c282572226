import {
  type ByteSink,
  type CharBackend,
  type ClockKind,
  Console,
  type DevicePluginSpec,
  type DrivenClock,
  Entropy,
  type Hypervisor,
  type LifecycleState,
  Log,
  type MachineConfig,
  type MemoryMapEntry,
  ReclaimPages,
  type VirtualMachine,
} from "../contracts/index.ts";
import { loadBoot } from "../boot/index.ts";
import { mmioBus, portBus } from "../bus/address-space.ts";
import { GuardedBus, guardedShortcuts } from "../bus/guarded-bus.ts";
import { RealtimeClock } from "../clock/realtime-clock.ts";
import { VirtualClock } from "../clock/virtual-clock.ts";
import { DeviceSet } from "../composition/device-set.ts";
import { HostEndOpener } from "../composition/host-end-opener.ts";
import type { PluginRegistry } from "../composition/plugin-registry.ts";
import { ServiceContainer } from "../composition/service-container.ts";
import { createEntropy, KeyStream } from "../host/entropy.ts";
import { RingBufferBackend } from "../host/ring-buffer.ts";
import { InterruptFanIn } from "../interrupts/interrupt-fan-in.ts";
import { SlottedGuestMemory } from "../memory/slotted-guest-memory.ts";
import { BootImages } from "./boot-images.ts";
import type { BootLoader } from "./boot-loader.ts";
import { Machine } from "./machine.ts";
import { planMachine } from "./plan-machine.ts";
import { PowerRequests } from "./power-requests.ts";

/** What `createMachine` needs. */
export interface MachineOptions {
  readonly config: MachineConfig;
  readonly hypervisor: Hypervisor;
  readonly registry: PluginRegistry;
  /** Loads `config.boot`. @defaultValue `loadBoot` */
  readonly bootLoader?: BootLoader;
  /** @defaultValue a ring buffer that nobody reads */
  readonly console?: CharBackend;
  /** Where devices put what a person should read. @defaultValue nowhere */
  readonly log?: ByteSink;
  /** @defaultValue as `config.clock` says, from 0 */
  readonly clock?: DrivenClock;
  /** @defaultValue zeroes them, and the host has nothing of it */
  readonly reclaimPages?: ReclaimPages;
  /** Gives another plugin of the same kind in a device's place: a recording one, one that can be replaced while it runs. */
  readonly adapt?: (spec: DevicePluginSpec<never, never>, id: string) => DevicePluginSpec<never, never>;
  /** The machine is only checked, and never runs: of the host it opens nothing. @defaultValue false */
  readonly isTrial?: boolean;
  /** Hears of every change of the machine's state; of `running`, just before the next instruction. */
  readonly onState?: (state: LifecycleState) => void;
  /** Hears why a device had the machine paused: `resume` tries again. */
  readonly onPause?: (reason: string) => void;
}

/** A clock of the kind the config asks for. */
export function createClock(kind: ClockKind | undefined): DrivenClock {
  return kind === "virtual" ? new VirtualClock() : new RealtimeClock();
}

/**
 * Makes a machine: checks the config, creates the virtual machine, its memory and its devices. The guest does not
 * run before `start()`. Throws `ConfigError` for what the config says wrong; nothing is left open then.
 */
export async function createMachine(options: MachineOptions): Promise<Machine> {
  const { hypervisor, registry } = options;
  const { config, type, vcpus, cpuModel, map, devices, owned } = await planMachine(
    options.config,
    registry,
    hypervisor,
  );
  const container = new ServiceContainer();
  const console = options.console ?? new RingBufferBackend();
  const log = options.log ?? { write: () => undefined };
  container.provide(Console, console, "the machine");
  const entropy = createEntropy(config.clock);
  container.provide(Entropy, entropy, "the machine");
  container.provide(Log, log, "the machine");
  container.provide(ReclaimPages, options.reclaimPages ?? ((pages) => void pages.fill(0)), "the machine");

  const ports = portBus();
  const mmio = mmioBus();
  const clock = options.clock ?? createClock(config.clock);
  const power = new PowerRequests(config.onReset ?? "restart");
  const onFault = (fault: unknown): void => {
    power.fault(fault);
  };
  const vm = await hypervisor.createVm({
    name: config.name,
    vcpus,
    clock,
    ports: new GuardedBus(ports, onFault),
    mmio: new GuardedBus(mmio, onFault),
    memoryBytes: bytesOf(map) + bytesOf(owned.map(({ place }) => place)),
    cpuModel,
  });
  ports.shortcuts = vm.shortcuts && guardedShortcuts(vm.shortcuts.ports, onFault);
  mmio.shortcuts = vm.shortcuts && guardedShortcuts(vm.shortcuts.mmio, onFault);
  let closeDevices = (): Promise<void> => Promise.resolve();
  try {
    const slots = map.map(({ gpa, length, kind }) =>
      vm.addMemory({ name: `${kind}@0x${gpa.toString(16)}`, gpa, length }),
    );
    const own = new Map(
      owned.map(({ device, place }) => [
        device,
        { ...vm.addMemory({ name: `${device.id}'s`, ...place }), device: device.id },
      ]),
    );
    const memory = new SlottedGuestMemory([...slots, ...own.values()], (gpa, length) => {
      vm.memoryWritten(gpa, length);
    });
    const fanIn = new InterruptFanIn((gsi, level) => {
      vm.setIrq(gsi, level);
    });
    const hostEnds = new HostEndOpener(registry.hostEnds, {
      clock,
      console,
      log,
      isTrial: options.isTrial,
    });
    const set = new DeviceSet(
      {
        clock,
        memory,
        power,
        msi: vm.msi,
        spaces: { ports, mmio },
        hostEnds,
        onFault,
        irq: (gsi) => fanIn.line(gsi),
      },
      container,
    );
    closeDevices = async (): Promise<void> => {
      await set.close();
      container.close();
    };
    const adapt = options.adapt ?? ((spec: DevicePluginSpec<never, never>) => spec);
    for (const device of devices)
      await set.setUp({ ...device, spec: adapt(device.spec, device.id) }, own.get(device));

    const images = new BootImages(config.boot);
    return new Machine({
      config,
      vm,
      clock,
      memory,
      devices: set.devices,
      hostEnds: hostEnds.opened,
      power,
      closeDevices,
      deviceAtWork: () => set.atWork,
      onState: options.onState ?? (() => undefined),
      onPause: options.onPause ?? (() => undefined),
      snapshot: {
        config,
        machineType: type.name,
        backend: hypervisor.name,
        vm,
        clock,
        memory,
        devices: set.devices,
        hostEnds: hostEnds.opened,
        images,
        keyStream: entropy instanceof KeyStream ? entropy : undefined,
      },
      driveLines: () => {
        fanIn.driveAll();
      },
      busStats: () => ({
        unclaimedPortReads: ports.unclaimed.reads,
        unclaimedPortWrites: ports.unclaimed.writes,
        unclaimedMmioReads: mmio.unclaimed.reads,
        unclaimedMmioWrites: mmio.unclaimed.writes,
      }),
      boot: () => bootGuest(options.bootLoader ?? loadBoot, { config, vm, memory, map, set, vcpus, images }),
    });
  } catch (error) {
    await closeDevices().catch(() => undefined);
    await vm.close();
    throw error;
  }
}

const bytesOf = (map: readonly { readonly length: number }[]): number =>
  map.reduce((sum, { length }) => sum + length, 0);

interface BootParts {
  readonly config: MachineConfig;
  readonly vm: VirtualMachine;
  readonly memory: SlottedGuestMemory;
  readonly map: readonly MemoryMapEntry[];
  readonly set: DeviceSet;
  readonly vcpus: number;
  readonly images: BootImages;
}

async function bootGuest(load: BootLoader, parts: BootParts): Promise<void> {
  const { config, vm, memory, map, set, vcpus, images } = parts;
  if (config.boot === undefined) return;
  const initial = await load({
    boot: config.boot,
    memory,
    memoryMap: map,
    firmware: set.firmware,
    vcpus,
    readFile: images.read,
  });
  images.booted();
  const [first] = vm.vcpus;
  if (first === undefined) return;
  const state = first.getState();
  // Whether there is a local APIC, and where, is the backend's to say.
  const { apicBase } = state.sregs;
  first.setState({ ...state, ...initial, sregs: { ...(initial.sregs ?? state.sregs), apicBase } });
}
