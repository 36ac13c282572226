import { FakeMemory } from "@northbridge/sdk/testing";
import { describe, expect, it } from "vitest";
import { be32, pattern, type ScsiCommand, startedDisk, TestDisk } from "../../test/scsi-driver.ts";

describe("VirtioScsi's task management (§5.6.6.2)", () => {
  const write = (id: number): ScsiCommand => ({
    cdb: [0x2a, 0, ...be32(id), 0, 0, 1],
    out: pattern(512),
    id,
  });
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const [ABORT_TASK, ABORT_TASK_SET, NEXUS_RESET, RESET, QUERY_TASK, QUERY_TASK_SET] = [0, 1, 4, 5, 6, 7];

  it("ends an aborted command when the host is done with it, and then says so", async () => {
    const { driver, backend } = await startedDisk();
    backend.hold();
    const [first, second] = [driver.submit(write(1)), driver.submit(write(2))];
    expect([driver.manage(QUERY_TASK, 1)(), driver.manage(QUERY_TASK, 9)()]).toEqual([10, 0]);
    const abort = driver.manage(ABORT_TASK, 1);
    await settle();
    expect([abort(), first()]).toEqual([0xee, undefined]);
    backend.release();
    await settle();
    expect([abort(), first()?.response, second()?.response]).toEqual([0, 2, 0]);
    expect(driver.manage(QUERY_TASK_SET)()).toBe(0);
  });

  it.each([ABORT_TASK_SET, NEXUS_RESET, RESET])(
    "ends all commands of a unit (function %i)",
    async (subtype) => {
      const { driver, backend } = await startedDisk();
      backend.hold();
      const commands = [1, 2, 3].map((id) => driver.submit(write(id)));
      const done = driver.manage(subtype);
      backend.release();
      await settle();
      const response = subtype === ABORT_TASK_SET ? 2 : 4; // §5.6.6.1: S_ABORTED, S_RESET
      expect([done(), ...commands.map((end) => end()?.response)]).toEqual([
        0,
        ...[1, 2, 3].map(() => response),
      ]);
      expect((await driver.run({ cdb: [0] })).sense).toEqual(
        subtype === ABORT_TASK_SET ? undefined : [6, 0x29, 3],
      );
    },
  );

  it("refuses what it does not know", async () => {
    const { driver } = await startedDisk();
    expect(driver.manage(99)()).toBe(11);
    expect(driver.manage(ABORT_TASK, 0, [1, 7])()).toBe(3);
    expect(driver.manage(ABORT_TASK, 0, [1, 0, 0x40, 1])()).toBe(12);
  });

  it("saves nothing half-done: a pause waits for the host, and for what waits for that", async () => {
    const { driver, backend } = await startedDisk();
    backend.hold();
    const command = driver.submit(write(1));
    const abort = driver.manage(ABORT_TASK, 1);
    const paused = driver.bench.endpoint.pause();
    backend.release();
    await paused;
    expect([command()?.response, abort()]).toEqual([2, 0]);
    expect(driver.bench.endpoint.save().queues.every(({ queue }) => queue?.inFlight.length === 0)).toBe(true);
  });

  it("takes the sizes of its fields in one piece or byte by byte, and none that are too large (§5.6.4)", async () => {
    const { endpoint } = (await startedDisk()).driver.bench;
    const sizes = (): number[] => [endpoint.readConfig(20, 4), endpoint.readConfig(24, 4)];
    endpoint.writeConfig(20, 4, 252);
    endpoint.writeConfig(24, 1, 16);
    expect(sizes()).toEqual([252, 16]);
    endpoint.writeConfig(20, 4, 100_000);
    endpoint.writeConfig(25, 1, 1);
    expect(sizes()).toEqual([252, 16]);
  });

  it("does not reset before the host is done, and says what the host has written", async () => {
    const memory = new FakeMemory(1 << 20);
    const { driver, backend } = await startedDisk(new TestDisk(), { memory });
    backend.hold();
    driver.submit(write(1));
    driver.submit({ cdb: [0x28, 0, ...be32(0), 0, 0, 1], room: 512 });
    memory.writes.length = 0;
    driver.bench.endpoint.setStatus(0);
    await settle();
    expect(driver.bench.endpoint.status).not.toBe(0);
    backend.release();
    await settle();
    expect(driver.bench.endpoint.status).toBe(0);
    expect(memory.writes.map(({ length }) => length)).toContain(512);
  });
});
