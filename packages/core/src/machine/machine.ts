import type {
  DrivenClock,
  GuestMemory,
  LifecycleState,
  MachineConfig,
  PowerControl,
  StopReason,
  Vcpu,
  VcpuState,
  VirtualMachine,
  VmExit,
} from "../contracts/index.ts";
import { DeviceFault, NorthbridgeError, RestoreError } from "../contracts/index.ts";
import type { ComposedDevice } from "../composition/device-services.ts";
import type { OpenedHostEnd } from "../composition/host-end-opener.ts";
import { Lifecycle } from "../lifecycle/lifecycle.ts";
import { readSnapshot } from "../snapshot/read-snapshot.ts";
import type { SnapshotSubject } from "../snapshot/snapshot-subject.ts";
import { writeSnapshot } from "../snapshot/write-snapshot.ts";
import type { PowerRequests } from "./power-requests.ts";
import { type AfterExit, VcpuRunner } from "./vcpu-runner.ts";

/** What a machine is made of. `createMachine` puts it together. */
export interface MachineParts {
  readonly config: MachineConfig;
  readonly vm: VirtualMachine;
  readonly clock: DrivenClock;
  readonly memory: GuestMemory;
  readonly devices: readonly ComposedDevice[];
  readonly hostEnds: readonly OpenedHostEnd[];
  readonly power: PowerRequests;
  readonly snapshot: SnapshotSubject;
  /** Tells the interrupt controllers the level of every line. */
  readonly driveLines: () => void;
  readonly busStats: () => Readonly<Record<string, number>>;
  /** Loads the guest and sets vCPU 0 up. Called before the first instruction and again after every reset. */
  readonly boot: () => Promise<void>;
  readonly onState: (state: LifecycleState) => void;
  /** A device had the machine paused. */
  readonly onPause: (reason: string) => void;
  /** The device whose code runs, or began what does. */
  readonly deviceAtWork: () => string | undefined;
  /** Frees everything but the virtual machine. */
  readonly closeDevices: () => Promise<void>;
}

/** Counters of a machine, for `--stats`. */
export interface MachineStats {
  /** Instructions and exits by kind, as the backend counts them. */
  readonly backend: Readonly<Record<string, number>>;
  readonly bus: Readonly<Record<string, number>>;
  /** By device id. */
  readonly devices: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** What host ends count, by device id and option: `disk0.disk`. Those that count nothing are left out. */
  readonly hostEnds: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly resets: number;
}

/** One guest, from its creation to its end. Every operation waits for the one before it. */
export class Machine {
  readonly #parts: MachineParts;
  readonly #lifecycle: Lifecycle;
  readonly #runner: VcpuRunner;
  readonly #powerOnIrqchip: unknown;
  readonly #parked = new Set<Vcpu>();
  readonly #stopped = Promise.withResolvers<StopReason>();
  /** The last operation: the next one starts after it. */
  #tail: Promise<unknown> = Promise.resolve();
  #isEnding = false;
  /** Whether memory is as the machine was made with, how it came to be otherwise, and who starts it then. */
  #contents: "as made" | "booted" | "restored" = "as made";
  /** The guest asked for a reset, which has not begun. */
  #isResetDue = false;
  #pauseReason: string | undefined;
  #resets = 0;
  #failure: unknown;
  #stats: MachineStats | undefined;

  constructor(parts: MachineParts) {
    this.#parts = parts;
    this.#lifecycle = new Lifecycle((state) => {
      this.#tellState(state);
    });
    this.#powerOnIrqchip = parts.vm.irqchip.save();
    this.#runner = new VcpuRunner(
      parts.vm.vcpus,
      (vcpu, exit) => this.#afterExit(vcpu, exit),
      (vcpu, error) => {
        this.#fail(error, `vCPU ${vcpu.index}: `);
      },
    );
    parts.power.listen({
      onStop: (reason) => {
        this.#end(reason);
      },
      onRestart: () => {
        this.#restart();
      },
      onPause: (reason) => {
        this.#pauseFor(reason);
      },
      onFault: (fault) => {
        this.#fail(fault);
      },
    });
  }

  get config(): MachineConfig {
    return this.#parts.config;
  }

  get state(): LifecycleState {
    return this.#lifecycle.state;
  }

  /** Why a device had the machine paused; until it is resumed. */
  get pauseReason(): string | undefined {
    return this.#pauseReason;
  }

  get clock(): DrivenClock {
    return this.#parts.clock;
  }

  /** What devices have opened of the host. */
  get hostEnds(): readonly OpenedHostEnd[] {
    return this.#parts.hostEnds;
  }

  get memory(): GuestMemory {
    return this.#parts.memory;
  }

  get devices(): readonly ComposedDevice[] {
    return this.#parts.devices;
  }

  /** What the guest's own power button, reset line and panic notifier reach. */
  get power(): PowerControl & Pick<PowerRequests, "panicBegins" | "panicWithdrawn"> {
    return this.#parts.power;
  }

  /** Resolves once the machine has stopped and everything of it is closed. Never rejects. */
  get stopped(): Promise<StopReason> {
    return this.#stopped.promise;
  }

  /** The host error behind a `StopReason` of kind `error`, where there was one. */
  get failure(): unknown {
    return this.#failure;
  }

  /**
   * For what nobody in this process caught, while that is handled: ends the machine where it came of something that a
   * device began, by the device's name. False where it did not.
   */
  blame(error: unknown): boolean {
    const device = this.#parts.deviceAtWork();
    if (device === undefined) return false;
    const reason = error instanceof Error ? error.message : String(error);
    this.#fail(new DeviceFault(device, `a callback of its own: ${reason}`, [], { cause: error }));
    return true;
  }

  /** Boots the guest, or goes on with a restored one. Where a device has asked for a pause, it begins paused. */
  start(): Promise<void> {
    return this.#inTurn(async () => {
      this.#lifecycle.expect("starting", "created");
      if (this.#contents !== "restored") {
        this.#contents = "booted";
        await this.#parts.boot();
      }
      if (this.#isEnding) return;
      if (this.#pauseReason !== undefined) {
        this.#parts.vm.pause?.();
        this.#lifecycle.move("paused");
        return;
      }
      this.#lifecycle.move("running");
      this.#go();
    });
  }

  /**
   * Resolves when no guest instruction runs and no device produces work. Called from inside a register access it
   * stops the guest right after that instruction. Where a device cannot pause, rejects, and the machine runs on.
   */
  pause(): Promise<void> {
    this.#release();
    return this.#inTurn(async () => {
      this.#lifecycle.expect("pausing", "running");
      await this.#hold();
      this.#lifecycle.move("paused");
    });
  }

  resume(): Promise<void> {
    return this.#inTurn(() => {
      this.#lifecycle.expect("resuming", "paused");
      this.#lifecycle.move("running");
      this.#go();
      return Promise.resolve();
    });
  }

  /** The states of its vCPUs at this moment: they stop for it, and go on. Only of a machine that runs. */
  async look(): Promise<readonly VcpuState[]> {
    let states: readonly VcpuState[] = [];
    this.#release();
    await this.#inTurn(async () => {
      this.#lifecycle.expect("looking", "running");
      await this.#runner.quiesce();
      if (this.#isEnding) return;
      try {
        states = this.#parts.vm.vcpus.map((vcpu) => vcpu.getState());
      } finally {
        // A guest that has asked for a reset waits for it: it comes next.
        if (!this.#isResetDue) {
          this.#parked.clear();
          this.#runner.start();
        }
      }
    });
    return states;
  }

  /** Ends the machine, as if its plug were pulled. Resolves when all is closed; a stopped machine stays as it is. */
  async stop(): Promise<void> {
    this.#end({ kind: "requested" });
    await this.stopped;
  }

  /**
   * Writes the machine to a new directory. A running machine pauses meanwhile, as `pause` does, and runs on
   * afterwards. Where saving fails nothing is left in the directory or around it, and the machine goes on or stays
   * paused as if nobody had asked. Throws `NB_SNAPSHOT`.
   */
  save(directory: string): Promise<void> {
    this.#release();
    return this.#inTurn(async () => {
      this.#lifecycle.expect("saving", "running", "paused");
      const wasRunning = this.#lifecycle.state === "running";
      if (wasRunning) await this.#hold();
      try {
        // A guest that has asked for it would wait for it where it is restored.
        if (this.#isResetDue) await this.#resetOrEnd();
        await writeSnapshot(this.#parts.snapshot, directory);
      } finally {
        if (wasRunning) this.#go();
      }
    });
  }

  /**
   * Loads what `save` wrote into a machine that is as it was made: neither booted, even in part, nor restored. Throws
   * `NB_RESTORE`, after which it is so again: nothing stays half-loaded.
   */
  restore(directory: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#lifecycle.expect("restoring", "created");
      if (this.#contents !== "as made") {
        throw new NorthbridgeError(
          "NB_LIFECYCLE",
          `restoring needs a machine as it was made, not one that has been ${this.#contents}: make another`,
        );
      }
      this.#parts.vm.pause?.(); // until it starts
      try {
        await readSnapshot(this.#parts.snapshot, directory);
      } catch (error) {
        if (!(error instanceof RestoreError)) this.#fail(error); // what was loaded could not be taken back
        throw error;
      }
      this.#contents = "restored";
    });
  }

  /** Counters so far; of a stopped machine, its last. */
  stats(): MachineStats {
    if (this.#stats !== undefined) return this.#stats;
    const devices: Record<string, Readonly<Record<string, number>>> = {};
    for (const { id, device, accesses } of this.#parts.devices) {
      const { ports, mmio } = accesses;
      devices[id] = {
        ...(ports.reads + ports.writes > 0 && { portReads: ports.reads, portWrites: ports.writes }),
        ...(mmio.reads + mmio.writes > 0 && { mmioReads: mmio.reads, mmioWrites: mmio.writes }),
        ...device.stats?.(),
      };
    }
    const hostEnds: Record<string, Readonly<Record<string, number>>> = {};
    for (const end of this.#parts.hostEnds) {
      const counters = end.stats();
      if (Object.keys(counters).length > 0) hostEnds[`${end.device}.${end.option}`] = counters;
    }
    return {
      backend: this.#parts.vm.stats(),
      bus: this.#parts.busStats(),
      devices,
      hostEnds,
      resets: this.#resets,
    };
  }

  /** Runs operations one after the other; after the end there are none. */
  #inTurn(operation: () => Promise<void>): Promise<void> {
    const result = this.#tail.then(() => {
      if (this.#isEnding) throw new NorthbridgeError("NB_LIFECYCLE", "the machine has stopped");
      return operation();
    });
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** The guest stops soon; whoever is next in turn waits for that and starts it again. */
  #release(): void {
    if (this.#lifecycle.state === "running") this.#runner.release();
  }

  /** Guest time, devices and vCPUs go on. A device that cannot is the end of the machine. */
  #go(): void {
    if (this.#isEnding) return;
    try {
      this.#parked.clear();
      this.#pauseReason = undefined;
      this.#parts.clock.resume();
      this.#parts.vm.resume?.();
      for (const { device } of this.#parts.devices) device.resume?.();
      this.#runner.start();
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * vCPUs, guest time and devices stand still, or go on where a device cannot: all or nothing. Guest time before devices:
   * what a slow disk takes to finish would be time in which the guest did not run.
   */
  async #hold(): Promise<void> {
    await this.#runner.quiesce();
    this.#parts.clock.pause();
    this.#parts.vm.pause?.();
    try {
      for (const { device } of this.#parts.devices) await device.pause?.();
    } catch (error) {
      this.#go();
      throw error;
    }
  }

  #afterExit(vcpu: Vcpu, exit: VmExit): AfterExit {
    switch (exit.kind) {
      case "interrupted":
      case "budget":
        return "continue";
      case "halt":
        this.#parked.add(vcpu);
        if (this.#parked.size === this.#parts.vm.vcpus.length) this.#end({ kind: "halted" });
        return "park";
      case "shutdown":
        this.#end({ kind: "tripleFault", detail: exit.detail });
        return "park";
      case "debug":
        this.#end({
          kind: "error",
          detail: `vCPU ${vcpu.index}: debug exit at 0x${exit.rip.toString(16)} with no debugger`,
        });
        return "park";
      case "error":
        this.#end({ kind: "error", detail: `vCPU ${vcpu.index}: ${describeError(exit)}` });
        return "park";
    }
  }

  /** A device's pause: the first reason counts until the machine goes on. */
  #pauseFor(reason: string): void {
    if (this.#pauseReason !== undefined || this.#isEnding) return;
    this.#pauseReason = reason;
    this.#release();
    this.#inTurn(async () => {
      if (this.#lifecycle.state === "running") {
        await this.#hold();
        this.#lifecycle.move("paused");
      }
      this.#pauseReason = reason;
      this.#parts.onPause(reason);
    }).catch((error: unknown) => {
      this.#fail(error); // a device could not pause
    });
  }

  /**
   * A guest-requested reset: power-on state of everything but RAM, then the boot loader again. Of a machine that was
   * paused meanwhile too: it resumes with the first instruction.
   */
  #restart(): void {
    if (this.#lifecycle.state === "created") {
      this.#parts.power.rearm(); // nobody to reset: what is loaded now begins anyway
      return;
    }
    this.#isResetDue = true;
    this.#runner.release();
    this.#inTurn(async () => {
      const { state } = this.#lifecycle;
      if (!this.#isResetDue || (state !== "running" && state !== "paused")) return;
      if (state === "running") await this.#hold(); // no host operation reaches the next guest's memory
      await this.#resetOrEnd();
      if (state === "running") this.#go();
    }).catch((error: unknown) => {
      this.#fail(error);
    });
  }

  /** A guest that is reset in part cannot go on. */
  async #resetOrEnd(): Promise<void> {
    try {
      await this.#reset();
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  /** Of a machine that stands still: power-on state, and the boot loader. */
  async #reset(): Promise<void> {
    const { vm, devices, boot, power, driveLines } = this.#parts;
    this.#isResetDue = false;
    for (const { device } of devices) device.reset?.();
    vm.irqchip.restore(this.#powerOnIrqchip);
    driveLines();
    vm.reset?.();
    for (const vcpu of vm.vcpus) vcpu.reset();
    power.rearm();
    this.#resets++;
    await boot();
    this.#parked.clear();
  }

  /** A listener that throws ends the machine; of the end, it is reported as what closing threw. */
  #tellState(state: LifecycleState): void {
    try {
      this.#parts.onState(state);
    } catch (error) {
      if (state === "stopped") throw error;
      this.#fail(error);
    }
  }

  /** Something of the host's side broke. */
  #fail(error: unknown, where = ""): void {
    if (this.#isEnding) return;
    this.#failure = error;
    this.#end({ kind: "error", detail: where + (error instanceof Error ? error.message : String(error)) });
  }

  /** The first reason wins. */
  #end(reason: StopReason): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    // In this order: what a backend throws now does not keep the machine from being closed.
    void this.#tail
      .then(() => this.#close())
      .then(
        () => {
          this.#stopped.resolve(reason);
        },
        (error: unknown) => {
          this.#failure ??= error;
          const detail = `closing: ${error instanceof Error ? error.message : String(error)}`;
          this.#stopped.resolve(
            reason.kind === "requested" || reason.kind === "powerOff" ? { kind: "error", detail } : reason,
          );
        },
      );
    try {
      this.#runner.release();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  async #close(): Promise<void> {
    const { clock, devices, closeDevices, vm } = this.#parts;
    const errors: unknown[] = [];
    /** Every step is taken, whatever became of those before it. */
    const take = async (step: () => unknown): Promise<void> => {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    };
    await take(() => this.#runner.quiesce());
    await take(() => {
      this.#lifecycle.move("stopped");
    });
    clock.pause();
    await take(() => (this.#stats = this.stats()));
    for (const { device } of devices) await take(() => device.pause?.());
    await take(closeDevices);
    await take(() => vm.close());
    if (errors.length > 0) throw errors[0];
  }
}

function describeError(exit: Extract<VmExit, { kind: "error" }>): string {
  const rip = exit.rip === undefined ? "" : ` at 0x${exit.rip.toString(16)}`;
  const bytes = exit.instructionBytes?.length
    ? ` [${[...exit.instructionBytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}]`
    : "";
  return `${exit.detail}${rip}${bytes}`;
}
