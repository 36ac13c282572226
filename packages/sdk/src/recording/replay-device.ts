import type {
  Device,
  DeviceContext,
  DeviceEntry,
  IoHandler,
  IoRegion,
  Timer,
  Token,
  Unmap,
} from "@northbridge/core/contracts";
import { PciBus } from "../pci/pci-bus.ts";
import type { PciFunction, PciFunctionStateV1 } from "../pci/pci-function.ts";
import { describeRecord, namesOf, type TraceNames, type TraceRegisters } from "./describe-trace.ts";
import { revive } from "./plain-data.ts";
import { nameOf } from "./record-device.ts";
import { ReplayCursor, type ReplayFailure } from "./replay-cursor.ts";
import { ReplayMemory } from "./replay-memory.ts";
import { ReplayServices } from "./replay-services.ts";
import {
  DMA_SHOWN,
  digestOf,
  type PowerRequest,
  type Trace,
  type TraceRecord,
  type TraceSpace,
} from "./trace-record.ts";

/** How a replay is judged and told of. */
export interface ReplayOptions {
  /** Gives messages register and field names. */
  readonly registers?: TraceRegisters;
  /** Called after every entry; what it throws ends the replay as a failure. */
  readonly check?: (device: Device) => void;
}

/** How a replay went. */
export interface ReplayResult {
  /** Accesses, timers and calls that the device took. */
  readonly entries: number;
  readonly failure?: ReplayFailure;
}

/**
 * Drives a device by a trace, without guest or machine, and compares everything it does with what the recorded one did.
 * The configuration is the recorded one, where that is data; `entry` has the plugin.
 */
export async function replayDevice(
  trace: Trace,
  entry: DeviceEntry,
  options: ReplayOptions = {},
): Promise<ReplayResult> {
  return new DeviceReplay(trace, entry, options).run();
}

/** Enough turns for a chain of promises that have nothing to wait for. */
const TURNS = 64;

class DeviceReplay {
  readonly #trace: Trace;
  readonly #entry: DeviceEntry;
  readonly #options: ReplayOptions;
  readonly #names: TraceNames;
  readonly #cursor: ReplayCursor;
  readonly #memory: ReplayMemory;
  readonly #services: ReplayServices;
  readonly #handlers = new Map<string, IoHandler>();
  /** By number: space and name. */
  readonly #regions = new Map<number, string>();
  readonly #closers: (() => void | Promise<void>)[] = [];
  readonly #timers: ReplayTimer[] = [];
  readonly #functions: PciFunction[] = [];
  #lines = 0;
  #nowNs = 0;
  /** The clock's, where it is not the header's any more. */
  #epochMs: number | undefined;
  #device: Device | undefined;

  constructor(trace: Trace, entry: DeviceEntry, options: ReplayOptions) {
    this.#trace = trace;
    this.#entry = entry;
    this.#options = options;
    this.#names = namesOf(trace, options.registers);
    for (const record of trace.records)
      if (record.kind === "map") this.#regions.set(record.region, `${record.space} ${record.name}`);
    this.#cursor = new ReplayCursor(trace, this.#names, (input) => {
      if (input.kind === "now") this.#nowNs = input.ns;
      else if (input.kind === "epoch") this.#epochMs = input.ms;
      else this.#memory.fill(input.gpa, input.bytes);
    });
    this.#memory = new ReplayMemory(trace.header.memory, {
      onRead: () => {
        this.#cursor.takeInputs();
      },
      onWritten: (gpa, bytes) => {
        const found = {
          kind: "dma",
          gpa,
          length: bytes.length,
          digest: digestOf(bytes),
          bytes: bytes.slice(0, DMA_SHOWN),
        } as const;
        this.#cursor.output(
          found,
          (expected) =>
            expected.gpa === gpa && expected.length === found.length && expected.digest === found.digest,
        );
      },
    });
    this.#services = new ReplayServices(this.#cursor, () => {
      const record = this.#cursor.record;
      this.#cursor.advance();
      if (record?.kind === "callback") this.#enter(record);
    });
  }

  async run(): Promise<ReplayResult> {
    const cursor = this.#cursor;
    let entries = 0;
    for (let record = cursor.record; record !== undefined; record = cursor.record) {
      const at = cursor.at;
      if (await this.#step(record)) entries++;
      if (cursor.failure === undefined) this.#check();
      if (cursor.failure !== undefined) return { entries, failure: { at, reason: this.#reason(record) } };
      // A trace that was cut off ends in the middle of an entry.
      if (cursor.at === at) cursor.advance();
    }
    return { entries };
  }

  #reason(record: TraceRecord): string {
    return `${describeRecord(record, this.#names)}: ${this.#cursor.failure?.reason ?? ""}`;
  }

  #check(): void {
    if (this.#device === undefined) return;
    try {
      this.#options.check?.(this.#device);
    } catch (error) {
      this.#cursor.fail(`the check threw: ${messageOf(error)}`);
    }
  }

  /** @returns whether the record was an entry */
  async #step(record: TraceRecord): Promise<boolean> {
    const cursor = this.#cursor;
    switch (record.kind) {
      case "read":
      case "write":
      case "configRead":
      case "configWrite":
      case "timer":
      case "callback":
        cursor.advance();
        this.#enter(record);
        return true;
      case "lifecycle":
        cursor.advance();
        await this.#lifecycle(record);
        return true;
      case "settled":
        cursor.advance();
        this.#services.settle(record.call, record.outcome);
        await settle();
        return true;
      case "end":
        // Of an entry whose beginning failed: the cursor has said so.
        cursor.advance();
        return false;
      case "now":
      case "epoch":
      case "memory":
      case "map":
      case "unmap":
      case "line":
        cursor.takeInputs();
        return false;
      default: {
        // What a device does on its own, behind a promise.
        const { at } = cursor;
        await settle();
        if (cursor.at === at) cursor.fail("the device did not");
        return false;
      }
    }
  }

  #enter(
    record: Extract<
      TraceRecord,
      { kind: "read" | "write" | "configRead" | "configWrite" | "timer" | "callback" }
    >,
  ): void {
    const cursor = this.#cursor;
    cursor.takeInputs();
    // Guest time as it was when the timer fired.
    if (record.kind === "timer") cursor.takeReading("now");
    let answer: unknown;
    let error: unknown;
    let hasThrown = false;
    try {
      answer = this.#call(record);
    } catch (thrown) {
      hasThrown = true;
      error = thrown;
    }
    const isRead = record.kind === "read" || record.kind === "configRead";
    if (isRead && !hasThrown && (typeof answer !== "number" || answer >>> 0 !== answer)) {
      hasThrown = true;
      error = `gave ${String(answer)}`;
    }
    if (hasThrown) {
      cursor.fail(`the device threw: ${messageOf(error)}`);
      return;
    }
    const end = cursor.end();
    // The cursor has said what is wrong, or the trace was cut off in this entry.
    if (end?.kind !== "end") return;
    if (end.error !== undefined) cursor.fail(`expected it to throw ${end.error}`);
    if (isRead && answer !== record.value) {
      cursor.fail(`the device answered 0x${Number(answer).toString(16)}`);
    }
    if (record.kind === "callback") {
      const found = JSON.stringify(this.#services.describe(answer));
      if (found !== JSON.stringify(record.result))
        cursor.fail(`it returned ${found}, expected ${JSON.stringify(record.result)}`);
    }
  }

  #call(
    record: Extract<
      TraceRecord,
      { kind: "read" | "write" | "configRead" | "configWrite" | "timer" | "callback" }
    >,
  ): unknown {
    switch (record.kind) {
      case "read":
      case "write": {
        const handler = this.#handlers.get(this.#regions.get(record.region) ?? "");
        if (handler === undefined) return this.#missing("the device maps no such region");
        if (record.kind === "read") return handler.read(record.offset, record.width);
        handler.write(record.offset, record.width, record.value);
        return undefined;
      }
      case "configRead":
      case "configWrite": {
        const fn = this.#functions[record.fn];
        if (fn === undefined) return this.#missing("there is no such function");
        if (record.kind === "configRead") return fn.configRead(record.offset, record.width);
        fn.configWrite(record.offset, record.width, record.value);
        return undefined;
      }
      case "timer": {
        const timer = this.#timers[record.timer];
        if (timer?.deadlineNs === undefined) return this.#missing("the device has not armed it");
        timer.fire();
        return undefined;
      }
      case "callback": {
        const callback = this.#services.callback(record.callback);
        if (callback === undefined) return this.#missing("the device has given no such function");
        return callback(...(revive(record.args) as unknown[]));
      }
    }
  }

  #missing(what: string): 0 {
    this.#cursor.fail(what);
    return 0;
  }

  async #lifecycle({ call, state }: Extract<TraceRecord, { kind: "lifecycle" }>): Promise<void> {
    this.#cursor.takeInputs();
    const fail = (error: unknown): void => {
      this.#cursor.fail(`the device threw: ${messageOf(error)}`);
    };
    try {
      switch (call) {
        case "setUp":
          this.#setUp().then((device) => (this.#device = device), fail);
          break;
        case "functionReset":
        case "functionRestore": {
          const [number, saved] = state as [number, PciFunctionStateV1];
          if (call === "functionReset") this.#functions[number]?.reset();
          else this.#functions[number]?.restore(saved);
          break;
        }
        case "restore":
          this.#device?.restore?.(structuredCloneOf(state));
          break;
        case "pause":
          Promise.resolve(this.#device?.pause?.()).catch(fail);
          break;
        case "save":
          this.#device?.save?.();
          break;
        case "close":
          Promise.resolve(this.#closers[Number(state)]?.()).catch(fail);
          break;
        case "reset":
          this.#device?.reset?.();
          break;
        case "resume":
          if (typeof state === "number") this.#epochMs = state;
          this.#device?.resume?.();
      }
    } catch (error) {
      fail(error);
    }
    await settle();
  }

  async #setUp(): Promise<Device> {
    const { spec } = this.#entry;
    const config = this.#trace.header.device.config ?? this.#entry.input;
    return spec.setup(this.#context(), config as never);
  }

  #context(): DeviceContext {
    const cursor = this.#cursor;
    const { device, clock } = this.#trace.header;
    const epochMs = (): number => {
      cursor.takeReading("epoch");
      return this.#epochMs ?? clock.epochMs;
    };
    const power = (request: PowerRequest, detail = ""): void => {
      cursor.output(
        { kind: "power", request, detail },
        (expected) => expected.request === request && expected.detail === detail,
      );
    };
    const service = <T>(token: Token<T>): T =>
      (token as symbol) === PciBus ? (this.#pciBus() as T) : (this.#services.service(nameOf(token)) as T);
    return {
      id: device.id,
      clock: {
        kind: clock.kind,
        get epochMs() {
          return epochMs();
        },
        nowNs: () => {
          cursor.takeReading("now");
          return this.#nowNs;
        },
        createTimer: (callback) => this.#timer(callback),
      },
      memory: this.#memory,
      power: {
        powerOff: () => {
          power("powerOff");
        },
        reset: () => {
          power("reset");
        },
        panic: (detail) => {
          power("panic", detail);
        },
        pause: (reason) => {
          power("pause", reason);
        },
      },
      msi: {
        signal: (address, data) => {
          cursor.output(
            { kind: "msi", address, data },
            (expected) => expected.address === address && expected.data === data,
          );
        },
      },
      get: service,
      find: (token) => {
        const call = { kind: "call", service: nameOf(token), method: "find", args: [] } as const;
        const record = cursor.output(
          call,
          (expected) => expected.service === call.service && expected.method === "find",
        );
        return record?.outcome?.result === true ? service(token) : undefined;
      },
      provide: () => undefined,
      mapMmio: (region, handler) => this.#map("mmio", region, handler),
      mapPorts: (region, handler) => this.#map("ports", region, handler),
      irq: () => this.#line(),
      describe: () => undefined,
      onClose: (closer) => {
        this.#closers.push(closer);
      },
    };
  }

  #line(): ReturnType<DeviceContext["irq"]> {
    const line = this.#lines++;
    let isHigh = false;
    const say =
      (kind: "irq" | "adopt") =>
      (level: boolean): void => {
        if (level === isHigh) return;
        isHigh = level;
        this.#cursor.output(
          { kind, line, level },
          (expected) => expected.line === line && expected.level === level,
        );
      };
    return { set: say("irq"), adopt: say("adopt") };
  }

  #timer(callback: () => void): Timer {
    const number = this.#timers.length;
    const timer = new ReplayTimer(callback, (deadlineNs) => {
      const cursor = this.#cursor;
      if (deadlineNs === undefined)
        cursor.output({ kind: "disarm", timer: number }, (expected) => expected.timer === number);
      else
        cursor.output(
          { kind: "arm", timer: number, deadlineNs },
          (expected) => expected.timer === number && expected.deadlineNs === deadlineNs,
        );
    });
    this.#timers.push(timer);
    return timer;
  }

  #map(
    space: TraceSpace,
    region: Omit<IoRegion, "name"> & { readonly name?: string },
    handler: IoHandler,
  ): Unmap {
    const key = `${space} ${region.name ?? this.#trace.header.device.id}`;
    this.#handlers.set(key, handler);
    return () => {
      if (this.#handlers.get(key) === handler) this.#handlers.delete(key);
    };
  }

  #pciBus(): PciBus {
    return {
      attach: (fn, slot) => {
        this.#functions.push(fn);
        fn.connect(fn.interruptPin === 0 ? undefined : 0);
        return { device: slot?.device ?? 0, function: slot?.function ?? 0 };
      },
    };
  }
}

class ReplayTimer implements Timer {
  deadlineNs: number | undefined = undefined;
  readonly #callback: () => void;
  readonly #onArm: (deadlineNs: number | undefined) => void;

  constructor(callback: () => void, onArm: (deadlineNs: number | undefined) => void) {
    this.#callback = callback;
    this.#onArm = onArm;
  }

  arm(deadlineNs: number): void {
    this.deadlineNs = deadlineNs;
    this.#onArm(deadlineNs);
  }

  disarm(): void {
    if (this.deadlineNs === undefined) return;
    this.deadlineNs = undefined;
    this.#onArm(undefined);
  }

  fire(): void {
    this.deadlineNs = undefined;
    this.#callback();
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await Promise.resolve();
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** A device may keep and change what it is restored from. */
const structuredCloneOf = (state: unknown): unknown => JSON.parse(JSON.stringify(state)) as unknown;
