/** A level-triggered interrupt input. Setting the current level again does nothing. */
export interface InterruptLine {
  set(level: boolean): void;
  /** Takes a level over without an edge: `restore` only. The interrupt controller is restored apart. */
  adopt(level: boolean): void;
}

/** Where message-signalled interrupts go (PCI 3.0 §6.8). */
export interface MsiTarget {
  /** @param address low 32 bits of the message address (0xFEExxxxx), @param data the 16-bit message data */
  signal(address: number, data: number): void;
  /**
   * An event of the host that sends a message without the machine thread: for back ends in other threads and
   * processes. `undefined` where the backend has no more of them, absent where it has none.
   */
  event?(address: number, data: number): InterruptEvent | undefined;
}

/** See `MsiTarget.event`. Gone with the machine at the latest. */
export interface InterruptEvent {
  /** An eventfd(2): whoever adds to it, in whichever process, sends the message. */
  readonly fd: number;
  /** Sends another message from now on. */
  route(address: number, data: number): void;
  close(): void;
}
