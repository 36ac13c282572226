import type { ClauseDriver, DriverOptions } from "./clause-driver.ts";
import type { ProbeRequest, VirtioTarget } from "./target.ts";

/** What a clause's test has. */
export interface ClauseContext {
  readonly target: VirtioTarget;
  readonly probe: ProbeRequest;
  readonly start: (options?: DriverOptions) => Promise<ClauseDriver>;
  /** The clause says nothing about this device. Does not return. */
  readonly skip: (note: string) => never;
}

/** A MUST (or, where it says so, a SHOULD) of the specification, as a test that throws where it does not hold. */
export interface Clause {
  /** `2.7.5.1`: of Virtual I/O Device (VIRTIO) 1.3. */
  readonly section: string;
  readonly says: string;
  run(context: ClauseContext): Promise<void>;
}
