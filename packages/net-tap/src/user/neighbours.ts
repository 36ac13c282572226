import { macKey } from "../wire/address.ts";
import type { Ip } from "../wire/ip.ts";

/** How long an address belongs to a card that is silent. */
const BINDING_MS = 3_600_000;
const MOST_NEIGHBOURS = 256;

interface Binding {
  readonly mac: Uint8Array;
  readonly key: number;
  expiresMs: number;
}

/**
 * Which card has which address. The first to use an address keeps it until it has been silent for an hour: another
 * card that claims it, by ARP or by a forged source, is not believed.
 */
export class Neighbours {
  readonly #bindings = new Map<Ip, Binding>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
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
    if (known !== undefined && known.expiresMs > now) return false;
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
    return known === undefined || known.key === macKey(bytes, at) || known.expiresMs <= this.#nowMs();
  }

  #expire(now: number): boolean {
    for (const [address, binding] of this.#bindings) {
      if (binding.expiresMs <= now) this.#bindings.delete(address);
    }
    return this.#bindings.size < MOST_NEIGHBOURS;
  }
}
