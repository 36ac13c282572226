import { it } from "vitest";
import { stockQemu } from "./harness/stock-qemu.ts";

it("packed rings: as the split ones, and what was in flight is not lost either", (context) =>
  stockQemu(true, context));
