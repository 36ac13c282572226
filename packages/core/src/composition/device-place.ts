/**
 * Where a guest finds a device that has just been set up: its regions, interrupts and what firmware tables say of it. A guest
 * that goes on after a restore does not look again.
 */
export class DevicePlace {
  readonly #found = new Set<string>();
  #isSetUp = false;

  /** What is noted after `close`, such as a BAR that a guest has placed, is state. Call the answer to take it back. */
  note(what: string): () => void {
    if (this.#isSetUp) return () => undefined;
    this.#found.add(what);
    return () => void this.#found.delete(what);
  }

  /** @returns what was noted and not taken back, in an order of its own */
  close(): readonly string[] {
    this.#isSetUp = true;
    return [...this.#found].sort();
  }
}

/** The same text for the same data, in whatever order it was written. */
export const describeData = (data: unknown): string =>
  JSON.stringify(data, (_key, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
