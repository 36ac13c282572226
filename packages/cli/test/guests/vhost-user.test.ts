import { it } from "vitest";
import { stockQemu } from "./harness/stock-qemu.ts";

it(
  "serves disk, network and entropy to a stock QEMU, and loses nothing where a back end is killed",
  {
    timeout: 300_000,
  },
  (context) => stockQemu(false, context),
);
