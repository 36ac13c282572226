import {
  type ConfigSchema,
  type Device,
  type DeviceContext,
  type DeviceEntry,
  expectFirmwareEntry,
  type FirmwareEntry,
  type GuestMemory,
  type InterruptLine,
  type MsiTarget,
  NorthbridgeError,
  type PowerControl,
  type Token,
} from "@northbridge/core/contracts";
import { FakeBus, FakePorts } from "./fake-bus.ts";
import { FakeClock } from "./fake-clock.ts";
import { FakeLine } from "./fake-line.ts";
import { FakeMemory } from "./fake-memory.ts";

/** Remembers what a guest asked of its machine. */
export class FakePower implements PowerControl {
  readonly requests: string[] = [];

  powerOff(): void {
    this.requests.push("powerOff");
  }

  reset(): void {
    this.requests.push("reset");
  }

  panic(detail: string): void {
    this.requests.push(`panic: ${detail}`);
  }

  pause(reason: string): void {
    this.requests.push(`pause: ${reason}`);
  }
}

/** Remembers message-signalled interrupts. */
export class FakeMsi implements MsiTarget {
  readonly messages: { readonly address: number; readonly data: number }[] = [];

  signal(address: number, data: number): void {
    this.messages.push({ address, data });
  }
}

/**
 * A machine without a processor: enough of one to set plugins up and to be their guest.
 * Services are shared by all devices; lines of several devices on one GSI stay apart (`lines`).
 */
export class FakeMachine {
  readonly clock: FakeClock;
  readonly memory: GuestMemory;
  readonly power: FakePower = new FakePower();
  readonly msi: FakeMsi = new FakeMsi();
  readonly portBus: FakeBus = new FakeBus();
  readonly mmio: FakeBus = new FakeBus();
  readonly ports: FakePorts = new FakePorts(this.portBus);
  readonly firmware: FirmwareEntry[] = [];
  readonly devices: Map<string, Device> = new Map<string, Device>();
  readonly lines: { readonly id: string; readonly gsi: number; readonly line: FakeLine }[] = [];
  readonly #services = new Map<Token<unknown>, unknown>();
  readonly #closers: (() => void | Promise<void>)[] = [];

  constructor(options: { readonly clock?: FakeClock; readonly memory?: GuestMemory } = {}) {
    this.clock = options.clock ?? new FakeClock();
    this.memory = options.memory ?? new FakeMemory(64 * 1024);
  }

  provide<T>(token: Token<T>, value: T): this {
    this.#services.set(token, value);
    return this;
  }

  get<T>(token: Token<T>): T {
    if (!this.#services.has(token)) {
      throw new NorthbridgeError(
        "NB_MISSING_TOKEN",
        `nobody provides ${token.description ?? "an unnamed token"}`,
      );
    }
    return this.#services.get(token) as T;
  }

  /** Validates the entry's config and sets its device up, with a context that `adapt` may wrap. */
  async add(
    entry: DeviceEntry,
    adapt: (ctx: DeviceContext) => DeviceContext = (ctx) => ctx,
  ): Promise<Device> {
    const id = entry.id ?? `${entry.spec.name.split("/").at(-1) ?? "device"}${this.devices.size}`;
    const device = await entry.spec.setup(
      adapt(this.context(id)),
      parse(entry.spec.config, entry.input, id) as never,
    );
    this.devices.set(id, device);
    return device;
  }

  /** Level of a GSI: the OR of its lines. */
  gsi(gsi: number): boolean {
    return this.lines.some((entry) => entry.gsi === gsi && entry.line.level);
  }

  /** Runs what devices registered with `onClose`, last first. */
  async close(): Promise<void> {
    for (const closer of this.#closers.splice(0).reverse()) await closer();
  }

  context(id: string): DeviceContext {
    return {
      id,
      clock: this.clock,
      memory: this.memory,
      power: this.power,
      msi: this.msi,
      get: (token) => this.get(token),
      find: <T>(token: Token<T>) => this.#services.get(token) as T | undefined,
      provide: (token, value) => {
        this.provide(token, value);
      },
      mapPorts: (region, handler) => this.portBus.map({ name: id, ...region }, handler),
      mapMmio: (region, handler) => this.mmio.map({ name: id, ...region }, handler),
      irq: (gsi) => this.#irq(id, gsi),
      describe: (entry) => {
        expectFirmwareEntry(entry);
        this.firmware.push(entry);
      },
      onClose: (closer) => {
        this.#closers.push(closer);
      },
    };
  }

  #irq(id: string, gsi: number): InterruptLine {
    const line = new FakeLine();
    this.lines.push({ id, gsi, line });
    return line;
  }
}

function parse(schema: ConfigSchema<never, never>, input: unknown, id: string): unknown {
  const result = schema["~standard"].validate(input ?? {}) as {
    readonly value?: unknown;
    readonly issues?: readonly { readonly message: string }[];
  };
  if (result.issues !== undefined) {
    throw new NorthbridgeError(
      "NB_CONFIG",
      `${id}: ${result.issues.map((issue) => issue.message).join("; ")}`,
    );
  }
  return result.value;
}
