import {
  type CharBackend,
  type ByteSink,
  type Clock,
  type HostEndBackends,
  type HostEndContext,
  type HostEndOptions,
  type HostEnds,
  type HostEndSlots,
  type HostEndSort,
  NorthbridgeError,
} from "../contracts/index.ts";
import { ConfigError } from "../config/config-error.ts";
import { filledSlots } from "./host-end-slots.ts";
import { idleEnd } from "../host/idle-ends.ts";
import type { HostEndKinds } from "./host-end-kinds.ts";

/** What the machine gives host ends. */
export interface HostEndServices {
  readonly clock: Clock;
  readonly console: CharBackend;
  readonly log: ByteSink;
  /** The machine is only checked: ends are tried, not opened. @defaultValue false */
  readonly isTrial?: boolean | undefined;
}

/** A host end that a device, or another end, has opened. */
export type OpenedHostEnd = {
  [Sort in HostEndSort]: {
    readonly device: string;
    /** Where it is in the device's config, `disk`, `disk.file`; what is not there goes by its kind. */
    readonly option: string;
    readonly sort: Sort;
    readonly kind: string;
    readonly backend: HostEndBackends[Sort];
    stats(): Readonly<Record<string, number>>;
  };
}[HostEndSort];

/** Whose options name host ends. */
interface Holder {
  readonly device: string;
  /** Config path of the device. */
  readonly where: string;
  /** Config path of the holder inside the device; empty for the device itself. */
  readonly within: string;
  readonly slots: HostEndSlots | undefined;
  readonly options: unknown;
}

/** Opens the host ends of one machine and remembers them. */
export class HostEndOpener {
  readonly #kinds: HostEndKinds;
  readonly #services: HostEndServices;
  readonly #opened: OpenedHostEnd[] = [];

  constructor(kinds: HostEndKinds, services: HostEndServices) {
    this.#kinds = kinds;
    this.#services = services;
  }

  get opened(): readonly OpenedHostEnd[] {
    return this.#opened;
  }

  /** What the device of that config opens its host ends with. */
  endsOf(device: {
    readonly id: string;
    readonly where: string;
    readonly spec: { readonly ends?: HostEndSlots };
    readonly config: unknown;
  }): HostEnds {
    const { id, where, spec, config } = device;
    return this.#endsFor({ device: id, where, within: "", slots: spec.ends, options: config });
  }

  #endsFor(holder: Holder): HostEnds {
    return {
      block: (options, { readOnly }) => this.#open("block", options, holder, readOnly),
      char: (options) => this.#open("char", options, holder, false),
      net: (options) => this.#open("net", options, holder, false),
      directory: (options, { readOnly }) => this.#open("directory", options, holder, readOnly),
      vsock: (options) => this.#open("vsock", options, holder, false),
    };
  }

  async #open<Sort extends HostEndSort>(
    sort: Sort,
    end: HostEndOptions,
    holder: Holder,
    readOnly: boolean,
  ): Promise<HostEndBackends[Sort]> {
    const { device, within } = holder;
    const slot = optionOf(end, holder);
    const option = join(within, slot === "" ? end.kind : slot);
    const where = join(holder.where, join(within, slot));
    const { kind, options } = await this.#kinds.parse(sort, end, where);
    let counters = (): Readonly<Record<string, number>> => ({});
    const { clock, console, log, isTrial = false } = this.#services;
    const context: HostEndContext = {
      clock,
      console,
      log,
      device,
      readOnly,
      ends: this.#endsFor({ ...holder, within: option, slots: kind.ends, options }),
      onStats: (read) => {
        counters = read;
      },
    };
    let backend: HostEndBackends[HostEndSort];
    try {
      backend = isTrial ? await idleEnd(kind, options, context) : await kind.open(options, context);
    } catch (error) {
      throw located(error, where);
    }
    const opened = { device, option, sort, kind: kind.kind, backend, stats: () => counters() };
    this.#opened.push(opened as OpenedHostEnd);
    return backend as HostEndBackends[Sort];
  }
}

const join = (path: string, option: string): string =>
  path === "" || option === "" ? path + option : `${path}.${option}`;

/** The option that is this end: devices hand on what their config holds. */
function optionOf(end: HostEndOptions, { slots, options }: Holder): string {
  return filledSlots(slots, options).find((slot) => slot.end === end)?.path ?? "";
}

/** Says where in the config the machine was refused something. */
export function located(error: unknown, where: string): unknown {
  if (!(error instanceof NorthbridgeError) || error instanceof ConfigError) return error;
  return new ConfigError(error.code, where, error.message, { cause: error });
}
