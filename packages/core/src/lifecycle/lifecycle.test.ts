import { describe, expect, it } from "vitest";
import type { LifecycleState } from "../contracts/index.ts";
import { Lifecycle } from "./lifecycle.ts";

const PATHS: Record<LifecycleState, readonly LifecycleState[]> = {
  created: [],
  running: ["running"],
  paused: ["paused"],
  stopped: ["stopped"],
};

const LEGAL_MOVES = [
  "created→paused",
  "created→running",
  "created→stopped",
  "running→paused",
  "running→stopped",
  "paused→running",
  "paused→stopped",
];

describe("Lifecycle", () => {
  it("allows the legal moves and no other", () => {
    const allowed: string[] = [];
    const states = Object.keys(PATHS) as LifecycleState[];
    for (const from of states) {
      for (const to of states) {
        const lifecycle = new Lifecycle();
        for (const step of PATHS[from]) lifecycle.move(step);
        try {
          lifecycle.move(to);
          allowed.push(`${from}→${to}`);
        } catch (error) {
          expect(error).toMatchObject({ code: "NB_LIFECYCLE" });
          expect(lifecycle.state).toBe(from);
        }
      }
    }
    expect(allowed.sort()).toEqual([...LEGAL_MOVES].sort());
  });
});
