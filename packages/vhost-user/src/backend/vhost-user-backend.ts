import { close } from "@northbridge/linux";
import type { VirtioDevice } from "@northbridge/sdk/virtio";
import { Listener } from "./listener.ts";
import type { CreateMemory } from "./region-table.ts";
import { ServedDevice } from "./served-device.ts";
import { BackendSession } from "./session.ts";

export interface VhostUserBackendOptions {
  readonly device: VirtioDevice;
  /** For messages. @defaultValue "virtio" */
  readonly name?: string;
  /** Guest memory over slots: `(slots, written) => new SlottedGuestMemory(slots, written)` of `@northbridge/core`. */
  readonly createMemory: CreateMemory;
  /** Whether to offer packed rings. @defaultValue false */
  readonly packed?: boolean;
  /** Whether to offer to use buffers in the order the driver made them available. @defaultValue false */
  readonly inOrder?: boolean;
  /**
   * Refuses memory that its owner may cut off (without `F_SEAL_SHRINK`): an access behind its new end would end this
   * process. QEMU seals `memory-backend-memfd`. @defaultValue false
   */
  readonly sealedMemory?: boolean;
  /** Hears of connections and of what was refused. @defaultValue nobody */
  readonly say?: (line: string) => void;
}

/**
 * A virtio device served to other virtual machine monitors (vhost-user: the back end): to one front end at a time,
 * over connections that it is given or that come to a socket. The device stays when a front end goes.
 */
export class VhostUserBackend {
  readonly #options: VhostUserBackendOptions;
  readonly #served: ServedDevice;
  #session: BackendSession | undefined;
  #listener: Listener | undefined;

  constructor(options: VhostUserBackendOptions) {
    this.#options = options;
    this.#served = new ServedDevice(options.device, {
      name: options.name ?? "virtio",
      packed: options.packed ?? false,
      inOrder: options.inOrder ?? false,
    });
  }

  /** Listens at a Unix socket. Throws `NB_HOST` where it cannot be had. */
  listen(path: string): void {
    this.#listener = new Listener(path, async (fd) => {
      await this.serve(fd).catch((error: unknown) => {
        this.#options.say?.(error instanceof Error ? error.message : String(error));
      });
    });
  }

  /**
   * Serves a connected Unix stream socket until it ends; one at a time. Resolves with the reason, once nothing here
   * touches the front end's memory any more.
   */
  async serve(fd: number): Promise<string> {
    const say = this.#options.say ?? ((): void => undefined);
    this.#served.count("connections");
    say("a front end connected");
    try {
      this.#session = new BackendSession(fd, {
        served: this.#served,
        createMemory: this.#options.createMemory,
        sealedMemory: this.#options.sealedMemory ?? false,
        say,
      });
    } catch (error) {
      close(fd); // this process has no room for what a connection needs
      throw error;
    }
    const reason = await this.#session.ended;
    this.#session = undefined;
    say(`the front end is gone: ${reason}`);
    return reason;
  }

  /** Counters: connections, messages, kicks, calls, and what was refused or went wrong, by reason. */
  stats(): Readonly<Record<string, number>> {
    return { ...Object.fromEntries(this.#served.counts), ...this.#served.device.stats?.() };
  }

  /** Ends the connection there is, removes the socket and resets the device. */
  async close(): Promise<void> {
    this.#listener?.close();
    const session = this.#session;
    session?.close();
    await session?.ended;
    await this.#served.reset();
  }
}
