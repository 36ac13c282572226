import { describe, expect, it } from "vitest";
import { Cleanup, settled } from "../src/vm/cleanup.ts";

describe("what must be let go of", () => {
  it("goes the last first, whatever fails, and once", async () => {
    const taken: string[] = [];
    const cleanup = new Cleanup();
    cleanup.add(() => void taken.push("first"));
    cleanup.add(() => {
      taken.push("second");
      throw new Error("the second");
    });
    cleanup.add(async () => {
      await Promise.resolve();
      taken.push("third");
      throw new Error("the third");
    });
    const done = cleanup.run();
    expect(cleanup.run()).toBe(done);
    await expect(done).rejects.toThrow("the third");
    expect(taken).toEqual(["third", "second", "first"]);
  });

  it("is waited for together", async () => {
    let isDone = false;
    const slow = new Promise<void>((resolve) =>
      setImmediate(() => {
        isDone = true;
        resolve();
      }),
    );
    await expect(settled([Promise.reject(new Error("at once")), slow])).rejects.toThrow("at once");
    expect(isDone).toBe(true);
  });
});
