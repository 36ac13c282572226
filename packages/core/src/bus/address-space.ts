import type {
  Bus,
  BusShortcuts,
  IoHandler,
  IoRegion,
  IoWidth,
  Unmap,
  UntrustedHandler,
} from "../contracts/index.ts";
import { accessInWords, badAnswer, DeviceFault, isAnswer, NorthbridgeError } from "../contracts/index.ts";
import { AccessLog, describeRegion } from "./access-log.ts";

/** How often the guest accessed the regions that share this counter. A split access counts once for each part. */
export interface AccessCounter {
  reads: number;
  writes: number;
}

interface MappedRegion {
  readonly region: IoRegion;
  readonly base: number;
  readonly end: number;
  readonly widest: number;
  readonly handler: UntrustedHandler;
  readonly counter: AccessCounter;
}

/** Nothing is mapped here: the last-hit cache of an empty bus. */
const NOWHERE: MappedRegion = {
  region: { name: "nowhere", base: 0, length: 0 },
  base: Infinity,
  end: -Infinity,
  widest: 0,
  handler: { read: () => 0xffff_ffff, write: () => undefined },
  counter: { reads: 0, writes: 0 },
};

const ALL_ONES = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff } as const;

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Regions sorted by base, found by binary search behind a last-hit cache. The array is replaced, never edited. */
export class AddressSpace implements Bus {
  readonly #name: string;
  /** One past the last address: 65536 for ports. */
  readonly #size: number;
  #mapped: readonly MappedRegion[] = [];
  #last: MappedRegion = NOWHERE;
  readonly #log = new AccessLog();
  readonly unclaimed: { reads: number; writes: number } = { reads: 0, writes: 0 };
  /** What the backend can take over. Regions mapped before it is set stay as they are. */
  shortcuts: BusShortcuts | undefined;

  /** @param size one past the last address */
  constructor(name: string, size: number) {
    this.#name = name;
    this.#size = size;
  }

  get regions(): readonly IoRegion[] {
    return this.#mapped.map((mapped) => mapped.region);
  }

  /** @param counter counts accesses to the region, also after it has been mapped anew */
  map(region: IoRegion, handler: IoHandler, counter: AccessCounter = { reads: 0, writes: 0 }): Unmap {
    const { base, length, widest = 4 } = region;
    const end = base + length;
    if (
      !Number.isSafeInteger(base) ||
      !Number.isSafeInteger(length) ||
      base < 0 ||
      length < 1 ||
      end > this.#size
    ) {
      throw new NorthbridgeError(
        "NB_CONFIG",
        `${describeRegion(region)} is not a range of the ${this.#name} bus, whose addresses are [0x0, ${hex(this.#size)})`,
      );
    }
    const clash = this.#mapped.find((other) => base < other.end && other.base < end);
    if (clash) {
      throw new NorthbridgeError(
        "NB_REGION_OVERLAP",
        `${describeRegion(region)} overlaps ${describeRegion(clash.region)} on the ${this.#name} bus`,
      );
    }
    const mapped: MappedRegion = { region, base, end, widest, handler, counter };
    this.#mapped = [...this.#mapped, mapped].sort((a, b) => a.base - b.base);
    const taken = this.#offer(region, handler);
    return () => {
      for (const takeBack of taken.splice(0)) takeBack();
      this.#mapped = this.#mapped.filter((other) => other !== mapped);
      if (this.#last === mapped) this.#last = NOWHERE;
    };
  }

  read(address: number, width: IoWidth): number {
    const last = this.#last;
    if (address >= last.base && address + width <= last.end && width <= last.widest) {
      last.counter.reads++;
      return this.#ask(last, address - last.base, width);
    }
    return this.#readSlowly(address, width);
  }

  write(address: number, width: IoWidth, value: number): void {
    const last = this.#last;
    if (address >= last.base && address + width <= last.end && width <= last.widest) {
      last.counter.writes++;
      this.#tell(last, address - last.base, width, value);
      return;
    }
    this.#writeSlowly(address, width, value);
  }

  #readSlowly(address: number, width: IoWidth): number {
    const hit = this.#find(address);
    if (hit !== undefined) {
      this.#last = hit;
      if (address + width <= hit.end && width <= hit.widest) {
        hit.counter.reads++;
        return this.#ask(hit, address - hit.base, width);
      }
    } else if (this.#isEmpty(address, width)) {
      this.unclaimed.reads++;
      return ALL_ONES[width];
    }
    let value = 0;
    for (let done = 0; done < width; ) {
      const at = address + done;
      const part = this.#find(at);
      if (part === undefined) {
        this.unclaimed.reads++;
        value |= 0xff << (8 * done);
        done += 1;
      } else {
        const piece = pieceOf(part, at, width - done);
        part.counter.reads++;
        value |= this.#ask(part, at - part.base, piece) << (8 * done);
        done += piece;
      }
    }
    return value >>> 0;
  }

  #writeSlowly(address: number, width: IoWidth, value: number): void {
    const hit = this.#find(address);
    if (hit !== undefined) {
      this.#last = hit;
      if (address + width <= hit.end && width <= hit.widest) {
        hit.counter.writes++;
        this.#tell(hit, address - hit.base, width, value);
        return;
      }
    } else if (this.#isEmpty(address, width)) {
      this.unclaimed.writes++;
      return;
    }
    for (let done = 0; done < width; ) {
      const at = address + done;
      const part = this.#find(at);
      if (part === undefined) {
        this.unclaimed.writes++;
        done += 1;
      } else {
        const piece = pieceOf(part, at, width - done);
        part.counter.writes++;
        this.#tell(part, at - part.base, piece, ((value >>> (8 * done)) & ALL_ONES[piece]) >>> 0);
        done += piece;
      }
    }
  }

  /** A handler's answer. Throws `DeviceFault` where it threw, or gave what is no value of a register. */
  #ask(mapped: MappedRegion, offset: number, width: IoWidth): number {
    let value: unknown;
    try {
      value = mapped.handler.read(offset, width);
    } catch (error) {
      throw this.#fault(mapped, offset, width, error);
    }
    if (!isAnswer(value, width)) throw this.#fault(mapped, offset, width, badAnswer(value));
    this.#log.note(mapped.region, offset, width, value);
    return value;
  }

  #tell(mapped: MappedRegion, offset: number, width: IoWidth, value: number): void {
    this.#log.note(mapped.region, offset, -width, value);
    let result: unknown;
    try {
      result = mapped.handler.write(offset, width, value);
    } catch (error) {
      throw this.#fault(mapped, offset, -width, error);
    }
    if (result instanceof Promise) throw this.#fault(mapped, offset, -width, badAnswer(result));
  }

  #fault({ region }: MappedRegion, offset: number, width: number, cause: unknown): DeviceFault {
    if (cause instanceof DeviceFault) return cause.after(this.#log.of(region));
    const reason = cause instanceof Error ? cause.message : String(cause);
    const access = accessInWords(region, offset, width);
    return new DeviceFault(region.name, `${access}: ${reason}`, this.#log.of(region), { cause });
  }

  /** Offers the backend what the handler says of its registers. */
  #offer({ base }: IoRegion, handler: IoHandler): Unmap[] {
    const { shortcuts } = this;
    if (shortcuts === undefined) return [];
    const { doorbells = [], posted = [], onVcpus = [] } = handler;
    const taken = [
      ...doorbells.map(({ offset, ...bell }) =>
        shortcuts.doorbell?.(base + offset, bell, () => {
          this.write(base + offset, bell.width ?? 4, bell.value ?? 0);
        }),
      ),
      ...posted.map((range) => shortcuts.posted?.(base + range.offset, range.length)),
      ...onVcpus.map(({ offset, length, ...source }) => shortcuts.onVcpus?.(base + offset, length, source)),
    ];
    return taken.filter((takeBack) => takeBack !== undefined);
  }

  /** Index of the first region that ends after `address`. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#mapped.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const mapped = this.#mapped[middle] ?? NOWHERE;
      if (mapped.end <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #find(address: number): MappedRegion | undefined {
    const candidate = this.#mapped[this.#firstEndingAfter(address)];
    return candidate !== undefined && candidate.base <= address ? candidate : undefined;
  }

  #isEmpty(address: number, width: number): boolean {
    const next = this.#mapped[this.#firstEndingAfter(address)];
    return next === undefined || next.base >= address + width;
  }
}

/** Widest access of `left` bytes at most that the region takes at `at`. */
function pieceOf(part: MappedRegion, at: number, left: number): IoWidth {
  const room = Math.min(left, part.end - at, part.widest);
  return room >= 4 ? 4 : room >= 2 ? 2 : 1;
}

/** The 64 Ki I/O ports. */
export const portBus = (): AddressSpace => new AddressSpace("port", 0x1_0000);
/** Guest-physical addresses that are not memory: 52 bits (Intel SDM 3A §4.1.4). */
export const mmioBus = (): AddressSpace => new AddressSpace("MMIO", 2 ** 52);
