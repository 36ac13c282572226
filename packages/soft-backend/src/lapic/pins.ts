/** What a local APIC drives. None of these may re-enter the APIC that calls. */
export interface LocalApicPins {
  /** `hasInterrupt` or `acceptsExtInt` may have changed. */
  interruptChanged(): void;
  nmi(): void;
  init(): void;
  /** @param page start-up vector: execution begins at `page << 12` in real mode */
  startUp(page: number): void;
  /** The task priority, as CR8 shows it. */
  taskPriorityChanged(cr8: number): void;
  /** A level-triggered interrupt was completed: the I/O APIC hears of it. */
  endOfInterrupt(vector: number): void;
  /** An interrupt command: `low` is ICR bits 0–31. */
  sendCommand(low: number, destination: number): void;
}
