import { describe, expect, it } from "vitest";
import { token } from "../contracts/index.ts";
import { fakePlugin } from "../testing/fake-devices.ts";
import { type PlannedDevice, inOrderOfServices } from "./device-order.ts";
import { didYouMean } from "./did-you-mean.ts";
import { planDevices } from "./plan-devices.ts";
import { bare1, PluginRegistry } from "./plugin-registry.ts";
import { ServiceContainer } from "./service-container.ts";

const A = token<string>("a");
const B = token<string>("b");

const planned = (id: string, requires: readonly symbol[], provides: readonly symbol[]): PlannedDevice => ({
  id,
  spec: fakePlugin(`@fake/p/${id}`, () => ({}), { requires, provides }).spec,
  config: {},
  where: `devices[${id}]`,
});

describe("inOrderOfServices", () => {
  const order = (...devices: PlannedDevice[]): string[] =>
    inOrderOfServices(
      devices,
      (wanted) => wanted.description === "northbridge:machine",
      () => "@fake/p/other",
    ).map(({ id }) => id);

  it("puts providers first and otherwise keeps the order", () => {
    expect(
      order(planned("x", [B], []), planned("y", [], []), planned("z", [A], [B]), planned("w", [], [A])),
    ).toEqual(["w", "z", "x", "y"]);
    expect(order(planned("x", [token("machine")], []))).toEqual(["x"]);
  });

  it("names the plugins of a duplicate, a missing and a cyclic token", () => {
    expect(() => order(planned("x", [], [A]), planned("y", [], [A]))).toThrow(
      expect.objectContaining({
        code: "NB_DUPLICATE_TOKEN",
        configPath: "devices[y]",
        message: 'devices[y]: device y (@fake/p/y) provides "a", which device x (@fake/p/x) provides already',
      }),
    );
    expect(() => order(planned("x", [], [token("machine")]))).toThrow(/which the machine provides already/);
    expect(() => order(planned("x", [A], []))).toThrow(
      expect.objectContaining({
        code: "NB_MISSING_TOKEN",
        message:
          'devices[x]: device x (@fake/p/x) requires "a", which nobody in this machine provides; @fake/p/other would',
      }),
    );
    expect(() => order(planned("x", [A], [B]), planned("y", [B], [A]))).toThrow(
      expect.objectContaining({
        code: "NB_CYCLIC_TOKEN",
        configPath: "devices[x]",
        message: expect.stringContaining(
          "device x (@fake/p/x) requires device y (@fake/p/y) requires device x (@fake/p/x)",
        ),
      }),
    );
    expect(() => order(planned("x", [A], [A]))).toThrow(expect.objectContaining({ code: "NB_CYCLIC_TOKEN" }));
  });
});

describe("ServiceContainer", () => {
  it("keeps the services of two machines apart", () => {
    const [one, two] = [new ServiceContainer(), new ServiceContainer()];
    one.provide(A, "first", "x");
    two.provide(A, "second", "x");
    expect([one.get(A, "y"), two.get(A, "y")]).toEqual(["first", "second"]);
    one.close();
    expect(one.find(A)).toBeUndefined();
    expect(two.find(A)).toBe("second");
  });

  it("refuses duplicate and missing tokens by name", () => {
    const container = new ServiceContainer();
    container.provide(A, "value", "device x");
    expect(() => {
      container.provide(A, "other", "device y");
    }).toThrow(
      expect.objectContaining({
        code: "NB_DUPLICATE_TOKEN",
        message: 'device y provides "a", which device x provides already',
      }),
    );
    expect(() => container.get(B, "device y")).toThrow(
      expect.objectContaining({
        code: "NB_MISSING_TOKEN",
        message: 'device y requires "b", which nobody provides',
      }),
    );
    expect(container.find(B)).toBeUndefined();
  });
});

describe("PluginRegistry", () => {
  const serial = fakePlugin("@one/devices/serial", () => ({}));
  const disk = fakePlugin("@one/devices/disk", () => ({}));
  const otherDisk = fakePlugin("@two/devices/disk", () => ({}));
  const registry = new PluginRegistry([serial, disk, otherDisk]);

  it("knows full names and unique short ones", () => {
    expect(registry.plugin("serial", "x")).toBe(serial.spec);
    expect(registry.plugin("@two/devices/disk", "x")).toBe(otherDisk.spec);
    expect(registry.resolve({ plugin: "serial", id: "com1", at: 3 }, "devices[0]")).toEqual({
      spec: serial.spec,
      id: "com1",
      input: { at: 3 },
    });
  });

  it("says what was meant", () => {
    expect(() => registry.plugin("disk", "devices[1].plugin")).toThrow(
      'devices[1].plugin: "disk" is ambiguous; write one of @one/devices/disk, @two/devices/disk',
    );
    expect(() => registry.plugin("seral", "devices[1].plugin")).toThrow(
      expect.objectContaining({
        code: "NB_UNKNOWN_PLUGIN",
        message: `devices[1].plugin: expected a plugin's name, found "seral"; did you mean "serial"?`,
      }),
    );
    expect(() => registry.plugin("quantum", "d")).toThrow(
      `d: expected a plugin's name, found "quantum"; there are disk, serial`,
    );
    expect(() => registry.machineType("bear-1")).toThrow(
      'machine: expected one of bare-1, found "bear-1"; did you mean "bare-1"?',
    );
    expect(() => new PluginRegistry([serial, fakePlugin("@one/devices/serial", () => ({}))])).toThrow(
      /two plugins are called/,
    );
    const other = { ...bare1 };
    expect(() => new PluginRegistry([], [bare1, other])).toThrow(
      expect.objectContaining({ code: "NB_CONFIG", message: "two machine types are called bare-1" }),
    );
  });
});

describe("planDevices", () => {
  const serial = fakePlugin("@one/devices/serial", () => ({}));
  const registry = new PluginRegistry([serial]);
  const memory = { mib: 1 };
  const ids = async (
    devices: Parameters<typeof planDevices>[0]["devices"],
    type = bare1,
  ): Promise<string[]> =>
    (await planDevices({ memory, ...(devices && { devices }) }, type, registry)).map(({ id }) => id);

  it("numbers devices that have no id and keeps clear of those that have", async () => {
    expect(await ids([serial(), serial(), { plugin: "serial", id: "serial-1" }, serial()])).toEqual([
      "serial",
      "serial-2",
      "serial-1",
      "serial-3",
    ]);
  });

  it("refuses two devices with one id", async () => {
    await expect(
      ids([serial({}, { id: "com1" }), null, { plugin: "serial", id: "com1" }]),
    ).rejects.toMatchObject({
      code: "NB_DUPLICATE_ID",
      message: 'devices[2].id: "com1" is the id of devices[0] already',
    });
  });

  it("lets a listed device replace the implied one of its id", async () => {
    const type = { name: "two-1", devices: () => [serial({}, { id: "com1" }), serial({}, { id: "com2" })] };
    const plan = await planDevices(
      { memory, devices: [serial({ mine: true }, { id: "com2" })] },
      type,
      registry,
    );
    expect(plan.map(({ id, config }) => [id, config])).toEqual([
      ["com1", {}],
      ["com2", { mine: true }],
    ]);
  });
});

describe("didYouMean", () => {
  it("finds the nearest, and nothing where nothing is near", () => {
    expect(didYouMean("memroy", ["name", "memory", "machine"])).toBe('; did you mean "memory"?');
    expect(didYouMean("vcpu", ["vcpus", "boot"])).toBe('; did you mean "vcpus"?');
    expect(didYouMean("Kernel", ["kernel"])).toBe('; did you mean "kernel"?');
    expect(didYouMean("x", ["id"])).toBe("");
    expect(didYouMean("frobnicate", ["memory", "boot"])).toBe("");
  });
});
