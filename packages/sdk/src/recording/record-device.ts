import {
  type Clock,
  type Device,
  type DeviceContext,
  type DeviceEntry,
  type DevicePluginSpec,
  type IoHandler,
  type IoRegion,
  type IoWidth,
  isAnswer,
  type PowerControl,
  type Timer,
  type Token,
  type Unmap,
  type UntrustedHandler,
} from "@northbridge/core/contracts";
import { PciBus } from "../pci/pci-bus.ts";
import type { PciFunction } from "../pci/pci-function.ts";
import { plainOrNull } from "./plain-data.ts";
import { RecordedMemory } from "./recorded-memory.ts";
import { ServiceTap } from "./service-tap.ts";
import { Op, type PowerRequest, type TraceSpace } from "./trace-record.ts";
import { TraceWriter } from "./trace-writer.ts";

/** Takes a trace as it grows, about 64 KiB at a time. */
export type TraceSink = (bytes: Uint8Array) => void;

/**
 * The same plugin, whose device is recorded from its set-up on: accesses, DMA, interrupts, clock readings, timers, what
 * it says to services and hears from them. For `MachineOptions.adapt`.
 */
export function recordedPlugin(
  spec: DevicePluginSpec<never, never>,
  sink: TraceSink,
): DevicePluginSpec<never, never> {
  return { ...spec, setup: (ctx, config) => new DeviceRecorder(ctx, sink).setUp(spec, config) };
}

/** The same device, recorded. */
export function recordedDevice(entry: DeviceEntry, sink: TraceSink): DeviceEntry {
  return { ...entry, spec: recordedPlugin(entry.spec, sink) };
}

class DeviceRecorder {
  readonly #ctx: DeviceContext;
  readonly #writer: TraceWriter;
  readonly #memory: RecordedMemory;
  readonly #services: ServiceTap;
  readonly #regions = new Map<string, number>();
  #timers = 0;
  #lines = 0;
  #functions = 0;
  /** As the trace has it so far. */
  #epochMs: number;

  constructor(ctx: DeviceContext, sink: TraceSink) {
    this.#ctx = ctx;
    this.#epochMs = ctx.clock.epochMs;
    this.#writer = new TraceWriter(sink);
    this.#memory = new RecordedMemory(ctx.memory, this.#writer);
    this.#services = new ServiceTap({
      writer: this.#writer,
      onEnter: () => {
        this.#memory.noteViews();
      },
    });
  }

  async setUp(spec: DevicePluginSpec<never, never>, config: never): Promise<Device> {
    const { id, clock, memory } = this.#ctx;
    const writer = this.#writer;
    writer.header({
      version: 1,
      device: { id, plugin: spec.name, config: plainOrNull(config) },
      clock: { kind: clock.kind, epochMs: this.#epochMs },
      memory: memory.slots.map(({ gpa, length, readOnly }) => ({ gpa, length, readOnly })),
    });
    // Before the device's own, hence run last.
    this.#ctx.onClose(() => {
      writer.flush();
    });
    writer.lifecycle("setUp");
    return this.#recordedDevice(await spec.setup(this.#recordedContext(), config));
  }

  #recordedDevice(device: Device): Device {
    const writer = this.#writer;
    const enter = (call: "reset" | "pause" | "resume" | "save" | "restore", state?: unknown): void => {
      writer.lifecycle(call, state);
      this.#memory.noteViews();
    };
    return {
      ...(device.reset && {
        reset: () => {
          enter("reset");
          device.reset?.();
        },
      }),
      ...(device.pause && {
        pause: () => {
          enter("pause");
          return device.pause?.();
        },
      }),
      ...(device.resume && {
        resume: () => {
          enter("resume");
          device.resume?.();
        },
      }),
      ...(device.save && {
        save: () => {
          enter("save");
          return device.save?.();
        },
      }),
      ...(device.restore && {
        restore: (state: unknown) => {
          enter("restore", state);
          device.restore?.(state);
        },
      }),
      ...(device.stats && { stats: () => device.stats?.() ?? {} }),
      ...(device.monitorCommand && {
        monitorCommand: (words: readonly string[]) => device.monitorCommand?.(words) ?? Promise.resolve(""),
      }),
    };
  }

  #recordedContext(): DeviceContext {
    const ctx = this.#ctx;
    const found = <T>(token: Token<T>, service: T): T =>
      (token as symbol) === PciBus
        ? (this.#pciBus(service as PciBus) as T)
        : this.#services.tap(nameOf(token), service);
    let closers = 0;
    return {
      ...ctx,
      onClose: (closer) => {
        const number = closers++;
        ctx.onClose(() => {
          this.#writer.lifecycle("close", number);
          this.#memory.noteViews();
          return closer();
        });
      },
      clock: this.#clock(ctx.clock),
      memory: this.#memory,
      power: this.#power(ctx.power),
      msi: {
        signal: (address, data) => {
          this.#writer.msi(address, data);
          ctx.msi.signal(address, data);
        },
      },
      get: (token) => found(token, ctx.get(token)),
      find: (token) => {
        const service = ctx.find(token);
        const outcome = { result: service !== undefined };
        this.#writer.rare({ kind: "call", service: nameOf(token), method: "find", args: [], outcome });
        return service === undefined ? undefined : found(token, service);
      },
      mapMmio: (region, handler) => this.#map("mmio", region, handler),
      mapPorts: (region, handler) => this.#map("ports", region, handler),
      irq: (gsi) => {
        const line = this.#lines++;
        this.#writer.rare({ kind: "line", line, gsi });
        const inner = ctx.irq(gsi);
        let isHigh = false;
        return {
          set: (level) => {
            if (level !== isHigh) this.#writer.line(false, line, level);
            isHigh = level;
            inner.set(level);
          },
          adopt: (level) => {
            if (level !== isHigh) this.#writer.line(true, line, level);
            isHigh = level;
            inner.adopt(level);
          },
        };
      },
    };
  }

  #clock(inner: Clock): Clock {
    const writer = this.#writer;
    const epochMs = (): number => {
      const now = inner.epochMs;
      if (now !== this.#epochMs) writer.epoch(now);
      this.#epochMs = now;
      return now;
    };
    return {
      kind: inner.kind,
      get epochMs() {
        return epochMs();
      },
      nowNs: () => {
        const ns = inner.nowNs();
        writer.now(ns);
        return ns;
      },
      createTimer: (callback) => this.#timer(inner, callback),
    };
  }

  #timer(clock: Clock, callback: () => void): Timer {
    const writer = this.#writer;
    const number = this.#timers++;
    const inner = clock.createTimer(() => {
      writer.beginTimer(number);
      // Guest time as it is when the timer fires.
      writer.now(clock.nowNs());
      this.#memory.noteViews();
      this.#orThrown(callback);
      writer.endAccess(0);
    });
    return {
      get deadlineNs() {
        return inner.deadlineNs;
      },
      arm: (deadlineNs) => {
        writer.arm(number, deadlineNs);
        inner.arm(deadlineNs);
      },
      disarm: () => {
        if (inner.deadlineNs !== undefined) writer.disarm(number);
        inner.disarm();
      },
    };
  }

  #power(inner: PowerControl): PowerControl {
    const say = (request: PowerRequest, detail = ""): void => {
      this.#writer.rare({ kind: "power", request, detail });
    };
    return {
      powerOff: () => {
        say("powerOff");
        inner.powerOff();
      },
      reset: () => {
        say("reset");
        inner.reset();
      },
      panic: (detail) => {
        say("panic", detail);
        inner.panic(detail);
      },
      pause: (reason) => {
        say("pause", reason);
        inner.pause(reason);
      },
    };
  }

  #map(
    space: TraceSpace,
    region: Omit<IoRegion, "name"> & { readonly name?: string },
    handler: IoHandler,
  ): Unmap {
    const ctx = this.#ctx;
    const name = region.name ?? ctx.id;
    const key = `${space} ${name}`;
    const number = this.#regions.get(key) ?? this.#regions.size;
    this.#regions.set(key, number);
    const recorded = new RecordedHandler(number, handler, this.#writer, this.#memory);
    const unmap = space === "mmio" ? ctx.mapMmio(region, recorded) : ctx.mapPorts(region, recorded);
    this.#writer.rare({ kind: "map", space, region: number, name, base: region.base, length: region.length });
    let isMapped = true;
    return () => {
      if (isMapped) this.#writer.rare({ kind: "unmap", region: number });
      isMapped = false;
      unmap();
    };
  }

  /** Functions are the SDK's own: their configuration space is recorded where the PCI root enters them. */
  #pciBus(inner: PciBus): PciBus {
    return {
      attach: (fn, slot) => {
        this.#watch(fn, this.#functions++);
        return inner.attach(fn, slot);
      },
    };
  }

  /** What an entry gives; one that throws is over then. */
  #orThrown<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.#writer.thrown(error);
      throw error;
    }
  }

  #watch(fn: PciFunction, number: number): void {
    const writer = this.#writer;
    const memory = this.#memory;
    const configRead = fn.configRead.bind(fn);
    const configWrite = fn.configWrite.bind(fn);
    const reset = fn.reset.bind(fn);
    const restore = fn.restore.bind(fn);
    fn.configRead = (offset, width) => {
      writer.beginAccess(Op.CONFIG_READ, number, offset, width, 0);
      memory.noteViews();
      const value = this.#orThrown(() => configRead(offset, width));
      writer.endAccess(value);
      return value;
    };
    fn.configWrite = (offset, width, value) => {
      writer.beginAccess(Op.CONFIG_WRITE, number, offset, width, value);
      memory.noteViews();
      this.#orThrown(() => {
        configWrite(offset, width, value);
      });
      writer.endAccess(0);
    };
    fn.reset = () => {
      writer.lifecycle("functionReset", [number, null]);
      reset();
    };
    fn.restore = (state) => {
      writer.lifecycle("functionRestore", [number, state]);
      restore(state);
    };
  }
}

export const nameOf = (token: symbol): string => token.description ?? "service";

class RecordedHandler implements IoHandler {
  readonly #region: number;
  readonly #inner: UntrustedHandler;
  readonly #writer: TraceWriter;
  readonly #memory: RecordedMemory;

  constructor(region: number, inner: IoHandler, writer: TraceWriter, memory: RecordedMemory) {
    this.#region = region;
    this.#inner = inner;
    this.#writer = writer;
    this.#memory = memory;
  }

  read(offset: number, width: IoWidth): number {
    const writer = this.#writer;
    writer.beginAccess(Op.READ, this.#region, offset, width, 0);
    if (this.#memory.hasViews) this.#memory.noteViews();
    let value: number;
    try {
      value = this.#inner.read(offset, width) as number; // the bus that asked refuses what is none
    } catch (error) {
      writer.thrown(error);
      throw error;
    }
    if (isAnswer(value, width)) writer.endAccess(value);
    else writer.thrown(`gave ${String(value)}`);
    return value;
  }

  write(offset: number, width: IoWidth, value: number): unknown {
    const writer = this.#writer;
    writer.beginAccess(Op.WRITE, this.#region, offset, width, value);
    if (this.#memory.hasViews) this.#memory.noteViews();
    let result: unknown;
    try {
      result = this.#inner.write(offset, width, value);
    } catch (error) {
      writer.thrown(error);
      throw error;
    }
    writer.endAccess(0);
    return result;
  }
}
