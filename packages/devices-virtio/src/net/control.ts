import { type DescriptorChain, FeatureSet, serve, type VirtQueue } from "@northbridge/sdk/virtio";
import { GUEST_OFFLOAD_FEATURES } from "./offload-header.ts";
import type { ReceiveFilter } from "./receive-filter.ts";
import {
  Ack,
  Announce,
  Class,
  Control,
  Feature,
  GuestOffloads,
  Mac,
  MAX_TABLE,
  Mq,
  Rx,
  Vlan,
} from "./spec.ts";

const ADDRESS = 6;

/** What commands change of their device. */
export interface NetControlHost {
  readonly filter: ReceiveFilter;
  readonly maxPairs: number;
  setMac(address: Uint8Array): void;
  /** The driver has announced itself. */
  announced(): void;
  setPairs(pairs: number): void;
  setGuestOffloads(features: FeatureSet): void;
}

/** The control queue (virtio 1.3 §5.1.6.5). A command that was not negotiated, or makes no sense, is answered ERR. */
export class NetControl {
  refused = 0;
  readonly #host: NetControlHost;

  constructor(host: NetControlHost) {
    this.#host = host;
  }

  /** @param features what device and driver agreed on */
  serve(queue: VirtQueue, features: FeatureSet): void {
    serve(queue, (chain) => {
      const isDone = chain.readableBytes >= Control.DATA && this.#command(chain, features);
      if (!isDone) this.refused++;
      queue.push(chain, chain.writeU8(0, isDone ? Ack.OK : Ack.ERR) ? 1 : 0);
    });
  }

  #command(chain: DescriptorChain, features: FeatureSet): boolean {
    const command = chain.readU8(Control.COMMAND);
    switch (chain.readU8(Control.CLASS)) {
      case Class.RX:
        return this.#rx(chain, command, features);
      case Class.MAC:
        return this.#mac(chain, command, features);
      case Class.VLAN:
        return features.has(Feature.CTRL_VLAN) && this.#vlan(chain, command);
      case Class.ANNOUNCE:
        if (!features.has(Feature.GUEST_ANNOUNCE) || command !== Announce.ACK) return false;
        this.#host.announced();
        return true;
      case Class.MQ:
        return features.has(Feature.MQ) && command === Mq.VQ_PAIRS_SET && this.#pairs(chain);
      case Class.GUEST_OFFLOADS:
        return command === GuestOffloads.SET && this.#offloads(chain, features);
      default:
        return false;
    }
  }

  #rx(chain: DescriptorChain, command: number, features: FeatureSet): boolean {
    const isExtra = command > Rx.ALLMULTI;
    if (!features.has(isExtra ? Feature.CTRL_RX_EXTRA : Feature.CTRL_RX)) return false;
    if (command > Rx.NOBCAST || chain.readableBytes !== Control.DATA + 1) return false;
    this.#host.filter.setMode(command, chain.readU8(Control.DATA) !== 0);
    return true;
  }

  #mac(chain: DescriptorChain, command: number, features: FeatureSet): boolean {
    if (command === Mac.ADDR_SET) {
      if (!features.has(Feature.CTRL_MAC_ADDR) || chain.readableBytes !== Control.DATA + ADDRESS)
        return false;
      const address = new Uint8Array(ADDRESS);
      chain.read(Control.DATA, address);
      this.#host.setMac(address);
      return true;
    }
    if (command !== Mac.TABLE_SET || !features.has(Feature.CTRL_RX)) return false;
    const first = readTable(chain, Control.DATA);
    const second = first && readTable(chain, first.end);
    if (first === undefined || second?.end !== chain.readableBytes) return false;
    this.#host.filter.setTables(first.addresses, second.addresses);
    return true;
  }

  #vlan(chain: DescriptorChain, command: number): boolean {
    if (chain.readableBytes !== Control.DATA + 2) return false;
    const id = chain.readU16(Control.DATA);
    if (id > 0xfff) return false;
    if (command === Vlan.ADD) this.#host.filter.addVlan(id);
    else if (command === Vlan.DEL) this.#host.filter.removeVlan(id);
    else return false;
    return true;
  }

  #pairs(chain: DescriptorChain): boolean {
    const pairs = chain.readU16(Control.DATA);
    if (chain.readableBytes !== Control.DATA + 2 || pairs < 1 || pairs > this.#host.maxPairs) return false;
    this.#host.setPairs(pairs);
    return true;
  }

  #offloads(chain: DescriptorChain, features: FeatureSet): boolean {
    if (!features.has(Feature.CTRL_GUEST_OFFLOADS) || chain.readableBytes !== Control.DATA + 8) return false;
    const wanted = new FeatureSet(chain.readU32(Control.DATA), chain.readU32(Control.DATA + 4));
    const allowed = FeatureSet.of(GUEST_OFFLOAD_FEATURES.filter((bit) => features.has(bit)));
    if (!wanted.isSubsetOf(allowed)) return false;
    this.#host.setGuestOffloads(wanted);
    return true;
  }
}

/** A count and that many addresses; of too many only one more than is kept. Undefined where they are not all there. */
function readTable(
  chain: DescriptorChain,
  at: number,
): { readonly addresses: Uint8Array; readonly end: number } | undefined {
  if (at + 4 > chain.readableBytes) return undefined;
  const count = chain.readU32(at);
  const end = at + 4 + ADDRESS * count;
  if (end > chain.readableBytes) return undefined;
  const addresses = new Uint8Array(ADDRESS * Math.min(count, MAX_TABLE + 1));
  chain.read(at + 4, addresses);
  return { addresses, end };
}
