import { macKey } from "../wire/address.ts";
import type { Ip } from "../wire/ip.ts";

/** How long an address belongs to a card that is silent. Leases are as long. */
export const BINDING_MS = 3_600_000;
const MOST_NEIGHBOURS = 256;
/** A card with more loses its oldest: what it makes up is not there for others. */
const MOST_OF_ONE = 16;

interface Binding {
  readonly mac: Uint8Array;
  readonly key: number;
  expiresMs: number;
}

/**
 * Which card has which address. The first to use an address keeps it until it has been silent for an hour: another
 * card that claims it, by ARP or by a forged source, is not believed. Fixed leases are their cards' from the beginning.
 */
export class Neighbours {
  readonly #bindings = new Map<Ip, Binding>();
  readonly #nowMs: () => number;
  /** Address → key of the only card that may have it. */
  readonly #reserved: ReadonlyMap<Ip, number>;

  /** @param leases fixed ones: key of a card → address */
  constructor(nowMs: () => number, leases: ReadonlyMap<number, Ip>) {
    this.#nowMs = nowMs;
    this.#reserved = new Map(Array.from(leases, ([key, address]) => [address, key]));
  }

  macOf(address: Ip): Uint8Array | undefined {
    return this.#bindings.get(address)?.mac;
  }

  /** Binds, or confirms, `address` to the card at `bytes[at…]`. False where it is another card's. */
  claim(address: Ip, bytes: Uint8Array, at: number): boolean {
    const key = macKey(bytes, at);
    const now = this.#nowMs();
    const known = this.#bindings.get(address);
    if (known?.key === key) {
      known.expiresMs = now + BINDING_MS;
      return true;
    }
    if ((known !== undefined && known.expiresMs > now) || !this.#mayHave(address, key)) return false;
    this.#makeRoom(key);
    if (this.#bindings.size >= MOST_NEIGHBOURS && known === undefined && !this.#expire(now)) return false;
    this.#bindings.set(address, { mac: bytes.slice(at, at + 6), key, expiresMs: now + BINDING_MS });
    return true;
  }

  /** Gives an address back, where `bytes[at…]` is the card that has it. */
  release(address: Ip, bytes: Uint8Array, at: number): void {
    if (this.#bindings.get(address)?.key === macKey(bytes, at)) this.#bindings.delete(address);
  }

  /** Whether `address` may be given to this card. */
  isFreeFor(address: Ip, bytes: Uint8Array, at: number): boolean {
    const known = this.#bindings.get(address);
    const key = macKey(bytes, at);
    if (!this.#mayHave(address, key)) return false;
    return known === undefined || known.key === key || known.expiresMs <= this.#nowMs();
  }

  /** Whether nobody has had `address` in living memory. */
  isFresh(address: Ip): boolean {
    return !this.#bindings.has(address);
  }

  #mayHave(address: Ip, key: number): boolean {
    return (this.#reserved.get(address) ?? key) === key;
  }

  #makeRoom(key: number): void {
    let count = 0;
    let oldest: Ip | undefined;
    let oldestMs = Infinity;
    for (const [address, binding] of this.#bindings) {
      if (binding.key !== key) continue;
      count += 1;
      if (binding.expiresMs >= oldestMs) continue;
      oldest = address;
      oldestMs = binding.expiresMs;
    }
    if (count >= MOST_OF_ONE && oldest !== undefined) this.#bindings.delete(oldest);
  }

  #expire(now: number): boolean {
    for (const [address, binding] of this.#bindings) {
      if (binding.expiresMs <= now) this.#bindings.delete(address);
    }
    return this.#bindings.size < MOST_NEIGHBOURS;
  }
}
