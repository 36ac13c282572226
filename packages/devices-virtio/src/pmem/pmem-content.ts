/** What a slot of persistent memory holds, and how it gets to the host. */
export interface PmemContent {
  /** Resolves once everything that the guest had written before the call is on stable storage. */
  flush(): Promise<void>;
  /** Guest time stands still from now on: a flush under way waits for none of it. */
  pause?(): void;
  resume?(): void;
  stats(): Readonly<Record<string, number>>;
}
