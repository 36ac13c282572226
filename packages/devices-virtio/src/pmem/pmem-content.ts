/** What a slot of persistent memory holds, and how it gets to the host. */
export interface PmemContent {
  /** Resolves once everything that the guest had written before the call is on stable storage. */
  flush(): Promise<void>;
  stats(): Readonly<Record<string, number>>;
}
