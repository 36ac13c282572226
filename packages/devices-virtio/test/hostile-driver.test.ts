import { hostilePrograms, hostileTrial, RINGS } from "@northbridge/sdk/fuzz";
import fc from "fast-check";
import { afterAll, describe, it } from "vitest";
import { RUNS, tell, TIMEOUT_MS } from "./campaign.ts";
import { drivenDevices } from "./driven/index.ts";

describe.each(drivenDevices)("a hostile driver of $name", (driven) => {
  let operations = 0;
  let requests = 0;
  afterAll(() => {
    tell(`${driven.name}: ${operations} operations, ${requests} requests taken`);
  });

  it.each(RINGS)(
    "is never obeyed beyond its buffers (%o)",
    async (rings) => {
      await fc.assert(
        fc.asyncProperty(hostilePrograms(driven), async (program) => {
          const done = await hostileTrial(driven, rings, program);
          operations += done.operations;
          requests += done.requests;
        }),
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );
});
