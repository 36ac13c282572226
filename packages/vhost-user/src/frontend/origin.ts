import { NorthbridgeError } from "@northbridge/sdk";
import { virtioSpec } from "@northbridge/sdk/virtio";
import { ProtocolFeature } from "../protocol/spec.ts";
import { FrontEnd, type FrontEndOptions } from "./front-end.ts";

/** What a back end has to have. */
export interface OriginOptions {
  /** Where it listens. */
  readonly socket: string;
  readonly deviceId: number;
  readonly queues: readonly number[];
  /** A number where the configuration space is the back end's. */
  readonly config: Uint8Array | number;
}

/** Where a back end is found, and found again when it was lost. */
export class Origin {
  readonly socket: string;
  readonly #options: OriginOptions;

  constructor(options: OriginOptions) {
    this.#options = options;
    this.socket = options.socket;
  }

  /** One that is there and may still refuse. Throws `NB_HOST` where nobody is. */
  open(events: LinkEvents): FrontEnd {
    return FrontEnd.connect(this.socket, events);
  }

  /** Agrees with it on what the device needs. Rejects with `NB_HOST` where it lacks something of that. */
  async agree(front: FrontEnd): Promise<void> {
    const { deviceId, queues, config } = this.#options;
    await front.negotiate();
    if (typeof config === "number" && !front.has(ProtocolFeature.CONFIG))
      this.#lacks("the protocol feature CONFIG", "none");
    const said = await front.queueNum();
    // Back ends of network cards count pairs, and have one where they do not say.
    const most = deviceId === virtioSpec.DeviceId.NET ? 2 * (said ?? 1) : said;
    if (most !== undefined && most < queues.length) this.#lacks(`${queues.length} queues`, String(most));
  }

  #lacks(expected: string, found: string): never {
    throw new NorthbridgeError("NB_HOST", `${this.socket}: expected ${expected}, found ${found}`);
  }
}

/** What one connection says, to whom it concerns by then. */
export class LinkEvents implements FrontEndOptions {
  changed: () => void = () => undefined;
  lost: () => void = () => undefined;
  readonly configChanged: () => void = () => {
    this.changed();
  };
  readonly closed: () => void = () => {
    this.lost();
  };
}
