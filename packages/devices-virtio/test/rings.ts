import type { VirtioBenchOptions } from "@northbridge/sdk/testing";

/** Layouts of the rings, and orders of their use. */
export const RINGS: readonly Rings[] = [
  { packed: false },
  { packed: true },
  { packed: false, inOrder: true },
  { packed: true, inOrder: true },
];

export type Rings = Pick<VirtioBenchOptions, "packed" | "inOrder">;
