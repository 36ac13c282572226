import { Ethernet, EtherType, MAX_TABLE, Rx } from "./spec.ts";
import { read16 } from "./checksum.ts";

/** Saved form, version 1. Addresses are numbers of 48 bits. */
export interface ReceiveFilterStateV1 {
  /** Bit n: mode n of the RX class is on. */
  readonly modes: number;
  readonly unicast: readonly number[];
  readonly multicast: readonly number[];
  readonly vlans: readonly number[];
}

const PROMISCUOUS = 1 << Rx.PROMISC;

/**
 * Which frames a driver wants (virtio 1.3 §5.1.6.5.1 to .3). Until it says something, all; of VLANs those it has added,
 * where it has accepted to say which.
 */
export class ReceiveFilter {
  #modes = PROMISCUOUS;
  #unicast = new Set<number>();
  #multicast = new Set<number>();
  readonly #vlans = new Set<number>();
  readonly #mac: Uint8Array;

  /** @param mac the device's address, which may change */
  constructor(mac: Uint8Array) {
    this.#mac = mac;
  }

  reset(): void {
    this.#modes = PROMISCUOUS;
    this.#unicast.clear();
    this.#multicast.clear();
    this.#vlans.clear();
  }

  setMode(mode: number, isOn: boolean): void {
    this.#modes = isOn ? this.#modes | (1 << mode) : this.#modes & ~(1 << mode);
  }

  /** Tables of six bytes an address. Of one that is too long everything is wanted. */
  setTables(unicast: Uint8Array, multicast: Uint8Array): void {
    this.#unicast = table(unicast);
    this.#multicast = table(multicast);
  }

  addVlan(id: number): void {
    this.#vlans.add(id & 0xfff);
  }

  removeVlan(id: number): void {
    this.#vlans.delete(id & 0xfff);
  }

  /** @param filtersVlans the driver says which VLANs it wants */
  wants(frame: Uint8Array, filtersVlans: boolean): boolean {
    if (filtersVlans && read16(frame, Ethernet.TYPE) === EtherType.VLAN) {
      if (!this.#vlans.has(read16(frame, Ethernet.HEADER) & 0xfff)) return false;
    }
    if (this.#is(Rx.PROMISC)) return true;
    const to = address(frame, Ethernet.DESTINATION);
    if (to === BROADCAST) return !this.#is(Rx.NOBCAST);
    if (((frame[Ethernet.DESTINATION] ?? 0) & 1) !== 0) {
      if (this.#is(Rx.NOMULTI)) return false;
      return this.#is(Rx.ALLMULTI) || holds(this.#multicast, to);
    }
    if (this.#is(Rx.NOUNI)) return false;
    return this.#is(Rx.ALLUNI) || to === address(this.#mac, 0) || holds(this.#unicast, to);
  }

  save(): ReceiveFilterStateV1 {
    return {
      modes: this.#modes,
      unicast: [...this.#unicast],
      multicast: [...this.#multicast],
      vlans: [...this.#vlans],
    };
  }

  restore({ modes, unicast, multicast, vlans }: ReceiveFilterStateV1): void {
    this.reset();
    this.#modes = modes;
    for (const each of unicast) this.#unicast.add(each);
    for (const each of multicast) this.#multicast.add(each);
    for (const each of vlans) this.#vlans.add(each);
  }

  #is(mode: number): boolean {
    return (this.#modes & (1 << mode)) !== 0;
  }
}

const BROADCAST = 0xffff_ffff_ffff;
/** Stands in a table for all the addresses that it has no room for. */
const EVERYTHING = -1;

const holds = (addresses: ReadonlySet<number>, to: number): boolean =>
  addresses.has(to) || addresses.has(EVERYTHING);

function address(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 6; i++) value = value * 256 + (bytes[at + i] ?? 0);
  return value;
}

function table(bytes: Uint8Array): Set<number> {
  const count = Math.floor(bytes.length / 6);
  if (count > MAX_TABLE) return new Set([EVERYTHING]);
  return new Set(Array.from({ length: count }, (_, index) => address(bytes, 6 * index)));
}
