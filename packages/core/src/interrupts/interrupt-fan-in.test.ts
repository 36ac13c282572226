import { describe, expect, it } from "vitest";
import { InterruptFanIn } from "./interrupt-fan-in.ts";

const recorded = (): { fanIn: InterruptFanIn; edges: string[] } => {
  const edges: string[] = [];
  return { fanIn: new InterruptFanIn((gsi, level) => edges.push(`${gsi}${level ? "↑" : "↓"}`)), edges };
};

describe("InterruptFanIn", () => {
  it("ORs the lines of one GSI", () => {
    const { fanIn, edges } = recorded();
    const a = fanIn.line(4);
    const b = fanIn.line(4);
    const other = fanIn.line(5);
    a.set(true);
    b.set(true);
    a.set(false);
    expect(edges).toEqual(["4↑"]);
    other.set(true);
    b.set(false);
    expect(edges).toEqual(["4↑", "5↑", "4↓"]);
  });

  it.each([-1, 24, 4.5, Number.NaN])("has no GSI %d", (gsi) => {
    expect(() => recorded().fanIn.line(gsi)).toThrow(`expected a GSI from 0 to 23, found ${gsi}`);
  });

  it("ignores the level a line already has", () => {
    const { fanIn, edges } = recorded();
    const line = fanIn.line(1);
    line.set(false);
    line.set(true);
    line.set(true);
    expect(edges).toEqual(["1↑"]);
  });

  it.each([Number.NaN, 1, undefined])("takes no %s for a level", (level) => {
    const { fanIn, edges } = recorded();
    const line = fanIn.line(1);
    for (const set of ["set", "adopt"] as const) {
      expect(() => {
        line[set](level as never);
      }).toThrow(`an interrupt line was set to ${level}, expected true or false`);
    }
    expect([edges, fanIn.level(1)]).toEqual([[], false]);
  });

  it("adopts a level without an edge and drops it with one", () => {
    const { fanIn, edges } = recorded();
    const line = fanIn.line(4);
    line.adopt(true);
    line.set(true);
    expect(edges).toEqual([]);
    expect(fanIn.level(4)).toBe(true);
    line.set(false);
    expect(edges).toEqual(["4↓"]);
  });
});
