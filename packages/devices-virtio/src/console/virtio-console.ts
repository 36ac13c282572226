import { type CharBackend, type IoWidth, NorthbridgeError, RestoreError } from "@northbridge/sdk";
import { type VirtioDevice, type VirtioSession, type VirtQueue, virtioSpec } from "@northbridge/sdk/virtio";
import { expectVersion } from "../saved-state.ts";
import { ALL_PENDING, ConsoleControl } from "./control.ts";
import { ConsolePort, type PortStateV1 } from "./port.ts";
import { Config, Feature, MAX_NAME, MAX_PORTS, Queue, receiveQueue } from "./spec.ts";

const QUEUE_SIZE = 64;

/** A port that programs of the guest find by its name: `/dev/virtio-ports/NAME` in Linux. */
export interface NamedPort {
  readonly name: string;
  readonly backend: CharBackend;
}

/** Saved form, version 1. Frozen: add a `V2` and an upgrade instead of editing it. */
export interface VirtioConsoleStateV1 {
  readonly version: 1;
  readonly ports: readonly PortStateV1[];
}

/**
 * Console device (virtio 1.3 §5.3): port 0 is a console, the others have names. What the guest has no buffers for, or
 * what no program of it wants yet, stays with the back end. Not modelled: ports that come and go.
 */
export class VirtioConsole implements VirtioDevice {
  readonly deviceId: number = virtioSpec.DeviceId.CONSOLE;
  readonly features: readonly number[];
  readonly queues: readonly number[];
  readonly config: Uint8Array = new Uint8Array(Config.LENGTH);
  readonly #view: DataView = new DataView(this.config.buffer);
  readonly #ports: readonly ConsolePort[];
  readonly #control: ConsoleControl;
  #session: VirtioSession | undefined;
  #isPaused = false;

  /** Throws `NB_CONFIG` where a port's name is none, or comes twice. */
  constructor(deps: { readonly backend: CharBackend; readonly ports?: readonly NamedPort[] }) {
    const { backend, ports: named = [] } = deps;
    checkNames(named);
    const hasPorts = named.length > 0;
    this.features = [Feature.SIZE, Feature.EMERG_WRITE, ...(hasPorts ? [Feature.MULTIPORT] : [])];
    this.#view.setUint32(Config.MAX_NR_PORTS, 1 + named.length, true);
    this.queues = new Array<number>(hasPorts ? 4 + 2 * named.length : 2).fill(QUEUE_SIZE);
    this.#ports = [undefined, ...named].map((port, index) => this.#port(index, backend, port));
    const config = this.#view;
    this.#control = new ConsoleControl({
      ports: this.#ports,
      queue: () => this.#controlQueue,
      get columns() {
        return config.getUint16(Config.COLS, true);
      },
      get rows() {
        return config.getUint16(Config.ROWS, true);
      },
    });
  }

  /** Tells the guest how large the console is. 0 × 0 is unknown. */
  resize(columns: number, rows: number): void {
    this.#view.setUint16(Config.COLS, columns, true);
    this.#view.setUint16(Config.ROWS, rows, true);
    const [console] = this.#ports;
    if (this.#isMultiport && console !== undefined) this.#control.resized(console);
    else this.#session?.configChanged();
  }

  /** `resize COLUMNS ROWS`. */
  monitorCommand(words: readonly string[]): Promise<string> {
    const [verb, ...numbers] = words;
    const [columns = NaN, rows = NaN] = numbers.map(Number);
    const isSize = [columns, rows].every((each) => Number.isInteger(each) && each > 0 && each <= 0xffff);
    if (verb !== "resize" || numbers.length !== 2 || !isSize) {
      return Promise.reject(
        new NorthbridgeError("NB_CONFIG", `expected resize COLUMNS ROWS, found ${words.join(" ")}`),
      );
    }
    this.resize(columns, rows);
    return Promise.resolve(`${columns} columns, ${rows} rows`);
  }

  writeConfig(offset: number, _width: IoWidth, value: number): void {
    if (offset === Config.EMERG_WR) this.#ports[0]?.emergencyWrite(value & 0xff); // works before there is a driver (§5.3.4)
  }

  start(session: VirtioSession): void {
    this.#session = session;
  }

  notify(index: number): void {
    if (index >= Queue.CONTROL_RECEIVE && !this.#isMultiport) return;
    if (index === Queue.CONTROL_RECEIVE) this.#control.send();
    else if (index === Queue.CONTROL_TRANSMIT) this.#hear();
    else {
      const port = this.#ports[index < Queue.CONTROL_RECEIVE ? 0 : (index >> 1) - 1];
      if (index % 2 === 0) port?.resume();
      else port?.transmit();
    }
  }

  reset(): void {
    this.#session = undefined;
    for (const port of this.#ports) port.reset();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#hear();
    for (const port of this.#ports) {
      // Whoever was at the host's end when the machine was saved need not be there now.
      if (port.state.isReady && port.isHostOpen !== port.state.isShownOpen) this.#control.peerChanged(port);
      port.resume();
      port.transmit();
    }
    this.#control.send();
  }

  stats(): Readonly<Record<string, number>> {
    const stats: Record<string, number> = { bytesIn: 0, bytesOut: 0 };
    this.#ports.forEach(({ name, bytesIn, bytesOut }) => {
      const prefix = name === undefined ? "" : `${name}.`;
      stats[`${prefix}bytesIn`] = bytesIn;
      stats[`${prefix}bytesOut`] = bytesOut;
    });
    return this.#ports.length > 1 ? { ...stats, controlLost: this.#control.lost } : stats;
  }

  save(): VirtioConsoleStateV1 {
    return { version: 1, ports: this.#ports.map((port) => port.save()) };
  }

  restore(state: unknown): void {
    const { version, ports } = state as VirtioConsoleStateV1;
    expectVersion("virtioConsole", version);
    if (ports.length !== this.#ports.length) {
      throw new RestoreError("virtioConsole", `${ports.length} ports, expected ${this.#ports.length}`);
    }
    this.#ports.forEach((port, index) => {
      const saved = ports[index];
      if (saved === undefined) return;
      if ((saved.pending & ~ALL_PENDING) !== 0) {
        throw new RestoreError(
          "virtioConsole",
          `port ${index} owes messages ${saved.pending}, there are none`,
        );
      }
      port.restore(saved);
    });
  }

  get #isMultiport(): boolean {
    return this.#session?.features.has(Feature.MULTIPORT) === true;
  }

  get #controlQueue(): VirtQueue | undefined {
    return this.#isMultiport && !this.#isPaused ? this.#session?.queue(Queue.CONTROL_RECEIVE) : undefined;
  }

  #hear(): void {
    const queue = this.#isMultiport ? this.#session?.queue(Queue.CONTROL_TRANSMIT) : undefined;
    if (queue !== undefined) this.#control.receive(queue);
  }

  #port(index: number, console: CharBackend, named: NamedPort | undefined): ConsolePort {
    const receive = receiveQueue(index);
    return new ConsolePort(named?.backend ?? console, named?.name, {
      receiveQueue: () => this.#session?.queue(receive),
      transmitQueue: () => (this.#isPaused ? undefined : this.#session?.queue(receive + 1)),
      // A driver throws away what comes for a port that no program has open; a console is always open.
      accepts: ({ name, state }) => !this.#isPaused && (name === undefined || state.isGuestOpen),
      peerChanged: (port) => {
        if (this.#isMultiport) this.#control.peerChanged(port);
      },
    });
  }
}

const PORT_NAME = /^[!-.0-~]+$/;

function checkNames(ports: readonly NamedPort[]): void {
  if (ports.length >= MAX_PORTS) {
    throw new NorthbridgeError("NB_CONFIG", `ports: ${ports.length}, expected at most ${MAX_PORTS - 1}`);
  }
  const names = new Set<string>();
  ports.forEach(({ name }, index) => {
    const at = `ports[${index}].name`;
    // The driver makes a file of the name.
    if (!PORT_NAME.test(name) || name.length > MAX_NAME) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${at}: expected 1 to ${MAX_NAME} printable ASCII characters but "/", found "${name}"`,
      );
    }
    if (names.has(name)) throw new NorthbridgeError("NB_CONFIG", `${at}: "${name}" is there already`);
    names.add(name);
  });
}
