import {
  type CharBackend,
  type Clock,
  Console,
  type Device,
  type DeviceContext,
  type DevicePluginSpec,
  HostEnds,
  type InterruptLine,
  type IoHandler,
  type IoRegion,
  NorthbridgeError,
  type Timer,
  type Token,
  type Unmap,
} from "@northbridge/core/contracts";
import { PciBus, type PciSlot } from "../pci/pci-bus.ts";
import type { PciFunction } from "../pci/pci-function.ts";
import { inTurn } from "./in-turn.ts";
import { KeptHostEnds } from "./kept-host-ends.ts";
import { WiredEnd } from "./wiring.ts";

type Spec = DevicePluginSpec<never, never>;
type Region = Omit<IoRegion, "name"> & { readonly name?: string };

/** One version of the device's code, and what of the machine it holds. */
interface Generation {
  device: Device;
  readonly maps: Set<Mapping>;
  readonly timers: { readonly timer: Timer; deadlineNs: number | undefined }[];
  readonly closers: (() => void | Promise<void>)[];
  readonly functions: PciFunction[];
  lines: number;
}

interface Mapping {
  readonly map: () => Unmap;
  unmap: Unmap;
}

/** An interrupt line whose level is known. */
class KeptLine implements InterruptLine {
  readonly gsi: number;
  level = false;
  readonly #inner: InterruptLine;

  constructor(gsi: number, inner: InterruptLine) {
    this.gsi = gsi;
    this.#inner = inner;
  }

  set(level: boolean): void {
    this.level = level;
    this.#inner.set(level);
  }

  adopt(level: boolean): void {
    this.level = level;
    this.#inner.adopt(level);
  }
}

/** A PCI function as the root knows it: whatever version of the device made the one behind it. */
interface Socket {
  readonly slot: PciSlot;
  gsi: number | undefined;
  current: PciFunction;
}

/**
 * A device whose code can be replaced in a machine that stands still: the old one is saved, lets go of its regions and
 * timers, and the new one is set up and restored in its place. Interrupt lines, host ends and the place on the PCI bus
 * stay. Where the new code cannot take over, the old one goes on.
 */
export class ReloadableDevice {
  /** For `MachineOptions.adapt`. */
  readonly spec: Spec;
  readonly #lines: KeptLine[] = [];
  readonly #sockets: Socket[] = [];
  #ends: KeptHostEnds | undefined;
  #console: WiredEnd<CharBackend> | undefined;
  #ctx: DeviceContext | undefined;
  #current: Generation | undefined;

  constructor(spec: Spec) {
    this.spec = { ...spec, setup: (ctx, config) => this.#setUp(ctx, spec, config) };
  }

  /**
   * Puts the new code in the old one's place. Only while the machine is paused.
   * Throws `NB_RESTORE` or what the new code threw, and then the old code goes on as if nothing had been. What closing the
   * old code throws it throws as well: the new code has taken over then.
   */
  async replace(spec: Spec, config: unknown): Promise<void> {
    const old = this.#current;
    if (old === undefined) throw refuse("it is not set up");
    if ((spec.provides?.length ?? 0) > 0) throw refuse("it provides services to other devices");
    if (old.device.save === undefined) throw refuse("it has no save");
    const state: unknown = JSON.parse(JSON.stringify(old.device.save()));
    const functions = old.functions.map((fn) => fn.save());
    detach(old);
    const next = newGeneration();
    this.#ends?.begin();
    this.#console?.remember();
    const lines = this.#lines.map((line) => ({ line, level: line.level }));
    try {
      next.device = await spec.setup(this.#context(next, true), config as never);
      if (next.device.restore === undefined) throw refuse("the new code has no restore");
      if (next.functions.length !== functions.length) throw refuse("it has another number of PCI functions");
      next.functions.forEach((fn, at) => {
        const saved = functions[at];
        if (saved !== undefined) fn.restore(saved);
      });
      next.device.restore(state);
    } catch (error) {
      detach(next);
      await runClosers(next).catch(() => undefined); // of code that has failed already
      const loss: unknown = await this.#ends?.rollBack().catch((problem: unknown) => problem);
      this.#console?.takeBack();
      this.#takeBackLines(lines);
      attach(old);
      throw loss === undefined ? error : withLoss(error, loss);
    }
    next.functions.forEach((fn, at) => {
      const socket = this.#sockets[at];
      if (socket !== undefined) socket.current = fn;
    });
    this.#current = next;
    // Lines that the new code has no use for.
    for (const line of this.#lines.splice(next.lines)) line.set(false);
    for (const { line } of lines) if (!this.#lines.includes(line)) line.set(false);
    await inTurn([() => runClosers(old), () => this.#ends?.commit()]);
  }

  async #setUp(ctx: DeviceContext, spec: Spec, config: never): Promise<Device> {
    this.#ctx = ctx;
    const first = newGeneration();
    first.device = await spec.setup(this.#context(first, false), config);
    this.#current = first;
    ctx.onClose(async () => {
      const current = this.#current;
      await inTurn([() => current && runClosers(current), () => this.#ends?.close()]);
    });
    const device = (): Device => this.#current?.device ?? {};
    return {
      ...(first.device.save && { save: () => device().save?.() }),
      ...(first.device.restore && {
        restore: (state: unknown) => {
          device().restore?.(state);
        },
      }),
      reset: () => {
        device().reset?.();
      },
      pause: () => device().pause?.(),
      resume: () => {
        device().resume?.();
      },
      stats: () => device().stats?.() ?? {},
      ...(first.device.monitorCommand && {
        monitorCommand: (words: readonly string[]) =>
          device().monitorCommand?.(words) ?? Promise.resolve("the device has no commands any more"),
      }),
    };
  }

  #context(generation: Generation, isReplacing: boolean): DeviceContext {
    const ctx = this.#ctx;
    if (ctx === undefined) throw refuse("it is not set up");
    const found = <T>(token: Token<T>, service: T): T => {
      if ((token as symbol) === PciBus) return this.#pciBus(service as PciBus, generation, isReplacing) as T;
      if ((token as symbol) === Console)
        return (this.#console ??= new WiredEnd(service as CharBackend)).shown as T;
      if ((token as symbol) !== HostEnds) return service;
      this.#ends ??= new KeptHostEnds(service as HostEnds);
      return this.#ends as T;
    };
    return {
      ...ctx,
      clock: clockOf(ctx.clock, generation),
      get: (token) => found(token, ctx.get(token)),
      find: (token) => {
        const service = ctx.find(token);
        return service === undefined ? undefined : found(token, service);
      },
      provide: (token, value) => {
        ctx.provide(token, value);
      },
      mapMmio: (region, handler) => mapped(generation, region, handler, (...args) => ctx.mapMmio(...args)),
      mapPorts: (region, handler) => mapped(generation, region, handler, (...args) => ctx.mapPorts(...args)),
      irq: (gsi) => this.#line(ctx, generation, gsi),
      // The guest has read its tables: later descriptions come too late.
      describe: (entry) => {
        if (!isReplacing) ctx.describe(entry);
      },
      onClose: (closer) => {
        generation.closers.push(closer);
      },
    };
  }

  /** The same line in every generation, so that its level stays. */
  #line(ctx: DeviceContext, generation: Generation, gsi: number): InterruptLine {
    const number = generation.lines++;
    const known = this.#lines[number];
    if (known?.gsi === gsi) return known;
    const line = new KeptLine(gsi, ctx.irq(gsi));
    this.#lines[number] = line;
    return line;
  }

  /** Lines are those of the old code again, at its levels. */
  #takeBackLines(lines: readonly { readonly line: KeptLine; readonly level: boolean }[]): void {
    const known = lines.map(({ line }) => line);
    for (const line of this.#lines.splice(0)) if (!known.includes(line)) line.set(false);
    for (const { line, level } of lines) line.set(level);
    this.#lines.push(...known);
  }

  #pciBus(inner: PciBus, generation: Generation, isReplacing: boolean): PciBus {
    return {
      attach: (fn, slot) => {
        const number = generation.functions.push(fn) - 1;
        if (!isReplacing) {
          const socket: Socket = { slot: { device: 0, function: 0 }, gsi: undefined, current: fn };
          const plugged = plug(fn, socket);
          this.#sockets.push(plugged);
          return Object.assign(plugged.slot, inner.attach(fn, slot));
        }
        const socket = this.#sockets[number];
        if (socket === undefined) throw refuse("it has more PCI functions than before");
        fn.connect(socket.gsi);
        return socket.slot;
      },
    };
  }
}

/** What the PCI root asks of the function that it was given goes to the current one. */
function plug(first: PciFunction, socket: Socket): Socket {
  const own = {
    configRead: first.configRead.bind(first),
    configWrite: first.configWrite.bind(first),
    connect: first.connect.bind(first),
    remap: first.remap.bind(first),
    reset: first.reset.bind(first),
    save: first.save.bind(first),
    restore: first.restore.bind(first),
  };
  const now = (): Pick<PciFunction, keyof typeof own> => (socket.current === first ? own : socket.current);
  first.configRead = (offset, width) => now().configRead(offset, width);
  first.configWrite = (offset, width, value) => {
    now().configWrite(offset, width, value);
  };
  first.connect = (gsi) => {
    socket.gsi = gsi;
    now().connect(gsi);
  };
  first.remap = () => {
    now().remap();
  };
  first.reset = () => {
    now().reset();
  };
  first.save = () => now().save();
  first.restore = (state) => {
    now().restore(state);
  };
  return socket;
}

const newGeneration = (): Generation => ({
  device: {},
  maps: new Set(),
  timers: [],
  closers: [],
  functions: [],
  lines: 0,
});

/** The machine forgets this generation: no access and no timer reaches it. */
function detach(generation: Generation): void {
  for (const mapping of generation.maps) mapping.unmap();
  for (const entry of generation.timers) {
    entry.deadlineNs = entry.timer.deadlineNs;
    entry.timer.disarm();
  }
}

/** Undoes `detach`. */
function attach(generation: Generation): void {
  for (const mapping of generation.maps) mapping.unmap = mapping.map();
  for (const { timer, deadlineNs } of generation.timers) if (deadlineNs !== undefined) timer.arm(deadlineNs);
}

const runClosers = (generation: Generation): Promise<void> => inTurn(generation.closers.splice(0).reverse());

function mapped(
  generation: Generation,
  region: Region,
  handler: IoHandler,
  map: (region: Region, handler: IoHandler) => Unmap,
): Unmap {
  const mapping: Mapping = { map: () => map(region, handler), unmap: map(region, handler) };
  generation.maps.add(mapping);
  return () => {
    mapping.unmap();
    generation.maps.delete(mapping);
  };
}

function clockOf(clock: Clock, generation: Generation): Clock {
  return {
    kind: clock.kind,
    get epochMs() {
      return clock.epochMs;
    },
    nowNs: () => clock.nowNs(),
    createTimer: (callback) => {
      const timer = clock.createTimer(callback);
      generation.timers.push({ timer, deadlineNs: undefined });
      return timer;
    },
  };
}

/** Why the old code goes on, and what it lacks from now on. */
const withLoss = (error: unknown, loss: unknown): NorthbridgeError =>
  new NorthbridgeError(
    "NB_HOST",
    `${reasonOf(error)}; and what the old code had open is gone: ${reasonOf(loss)}`,
    { cause: error },
  );

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const refuse = (reason: string): NorthbridgeError =>
  new NorthbridgeError("NB_RESTORE", `the device cannot be replaced: ${reason}`);
