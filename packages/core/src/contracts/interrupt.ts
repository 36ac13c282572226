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
}
