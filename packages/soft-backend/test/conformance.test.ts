import { VirtualClock } from "@northbridge/core";
import { hypervisorConformance } from "@northbridge/sdk/conformance";
import { describe, it } from "vitest";
import { softHypervisor } from "../src/index.ts";
import { coreIsBuilt } from "./fuzz/core-driver.ts";

describe.skipIf(!coreIsBuilt())("soft backend (needs the built core)", () => {
  hypervisorConformance(
    { describe, it },
    {
      createHypervisor: softHypervisor,
      createClock: () => new VirtualClock(),
    },
  );
});
