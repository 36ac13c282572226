import { type DescriptorChain, serve, type VirtQueue } from "@northbridge/sdk/virtio";
import type { ConsolePort } from "./port.ts";
import { Control, ControlEvent, Resize } from "./spec.ts";

/** Messages a port owes to the driver, in the order they are sent. At most one of each waits, whatever a driver does. */
const Pending = { ADD: 0x01, CONSOLE: 0x02, NAME: 0x04, CLOSE: 0x08, OPEN: 0x10, RESIZE: 0x20 } as const;

export const ALL_PENDING = 0x3f;

/** What the control queues need of their device. */
export interface ControlHost {
  readonly ports: readonly ConsolePort[];
  /** The queue for messages to the driver, while there may be any. */
  queue(): VirtQueue | undefined;
  readonly columns: number;
  readonly rows: number;
}

/**
 * The control queues of a device with several ports (virtio 1.3 §5.3.6.2): tell the driver which ports there are, what
 * they are called and whether somebody is at the host's end; hear which of them the guest has open.
 */
export class ConsoleControl {
  /** Messages that did not fit into the driver's buffer, or that made no sense. */
  lost = 0;
  readonly #host: ControlHost;
  readonly #names: readonly Uint8Array[];

  constructor(host: ControlHost) {
    this.#host = host;
    this.#names = host.ports.map(({ name = "" }) => Uint8Array.from(name, (char) => char.charCodeAt(0)));
  }

  /** Carries out what the driver has said. */
  receive(queue: VirtQueue): void {
    serve(queue, (chain) => {
      if (chain.readableBytes < Control.LENGTH) this.lost++;
      else
        this.#message(chain.readU32(Control.ID), chain.readU16(Control.EVENT), chain.readU16(Control.VALUE));
      queue.push(chain, 0);
    });
    this.send();
  }

  /** Somebody came to the host's end of a port, or went. */
  peerChanged(port: ConsolePort): void {
    const { state } = port;
    if (!state.isReady) return;
    if (port.isHostOpen) state.pending |= Pending.OPEN;
    else state.pending = (state.pending & ~Pending.OPEN) | (state.isShownOpen ? Pending.CLOSE : 0);
    this.send();
  }

  /** The console has another size. */
  resized(port: ConsolePort): void {
    if (!port.state.isReady) return;
    port.state.pending |= Pending.RESIZE;
    this.send();
  }

  /** Sends what is owed, as far as the driver has buffers. */
  send(): void {
    const queue = this.#host.queue();
    if (queue === undefined) return;
    this.#host.ports.forEach((port, id) => {
      while (port.state.pending !== 0) {
        const chain = queue.pop();
        if (chain === undefined) {
          if (queue.enableNotifications()) return;
          continue;
        }
        const what = port.state.pending & -port.state.pending; // the lowest bit
        port.state.pending &= ~what;
        queue.push(chain, this.#write(chain, port, id, what));
      }
    });
    queue.flush();
  }

  #message(id: number, event: number, value: number): void {
    if (event === ControlEvent.DEVICE_READY) {
      for (const port of this.#host.ports) {
        port.reset();
        if (value === 1) port.state.pending = Pending.ADD;
      }
      return;
    }
    const port = this.#host.ports[id];
    if (port === undefined) {
      this.lost++;
      return;
    }
    switch (event) {
      case ControlEvent.PORT_READY:
        port.reset();
        if (value !== 1) break; // the driver could not add it
        port.state.isReady = true;
        port.state.pending |= port.name === undefined ? Pending.CONSOLE | Pending.RESIZE : Pending.NAME;
        if (port.isHostOpen) port.state.pending |= Pending.OPEN;
        break;
      case ControlEvent.PORT_OPEN:
        port.state.isGuestOpen = value === 1;
        if (value === 1) port.resume();
        break;
      default:
        this.lost++;
    }
  }

  /** Fills a buffer of the driver's with a message. Returns its length, 0 where it does not fit. */
  #write(chain: DescriptorChain, port: ConsolePort, id: number, what: number): number {
    const isResize = what === Pending.RESIZE;
    const isName = what === Pending.NAME;
    const name = isName ? this.#names[id] : undefined;
    const length = isResize ? Resize.LENGTH : Control.LENGTH + (name?.length ?? 0);
    if (chain.writableBytes < length) {
      this.lost++;
      return 0;
    }
    chain.writeU32(Control.ID, id);
    chain.writeU16(Control.EVENT, EVENT[what] ?? 0);
    chain.writeU16(Control.VALUE, what === Pending.ADD || what === Pending.CLOSE ? 0 : 1);
    if (name !== undefined) chain.write(Control.LENGTH, name);
    if (isResize) {
      chain.writeU16(Resize.ROWS, this.#host.rows);
      chain.writeU16(Resize.COLS, this.#host.columns);
    }
    if (what === Pending.OPEN || what === Pending.CLOSE) port.state.isShownOpen = what === Pending.OPEN;
    return length;
  }
}

const EVENT: Readonly<Record<number, number>> = {
  [Pending.ADD]: ControlEvent.DEVICE_ADD,
  [Pending.CONSOLE]: ControlEvent.CONSOLE_PORT,
  [Pending.NAME]: ControlEvent.PORT_NAME,
  [Pending.CLOSE]: ControlEvent.PORT_OPEN,
  [Pending.OPEN]: ControlEvent.PORT_OPEN,
  [Pending.RESIZE]: ControlEvent.RESIZE,
};
