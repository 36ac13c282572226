import type { Skipping, SpecClause } from "../declare-clauses.ts";
import type { ClauseDriver, DriverOptions } from "./clause-driver.ts";
import type { ProbeRequest, VirtioTarget } from "./target.ts";

/** What a clause's test has. */
export interface ClauseContext extends Skipping {
  readonly target: VirtioTarget;
  readonly probe: ProbeRequest;
  readonly start: (options?: DriverOptions) => Promise<ClauseDriver>;
}

/** Of Virtual I/O Device (VIRTIO) 1.3. */
export type Clause = SpecClause<ClauseContext>;
