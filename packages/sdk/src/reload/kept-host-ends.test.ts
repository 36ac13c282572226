import {
  type BlockBackend,
  type HostEndOptions,
  HostEnds,
  NorthbridgeError,
} from "@northbridge/core/contracts";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { type ConfigSchema, definePlugin, type DevicePluginSpec } from "../index.ts";
import { FakeDisk, FakeNet, testBench } from "../testing/index.ts";
import { ReloadableDevice } from "./index.ts";

const AnyConfig: ConfigSchema<object, object> = {
  "~standard": { version: 1, vendor: "test", validate: (value) => ({ value: value as object }) },
};

/** Files of a host, of which each is one disk's at a time, as images are. */
class Files {
  readonly log: string[] = [];
  readonly bytes = new Map<string, Uint8Array>();
  readonly #inUse = new Set<string>();
  /** Files that take the host a while to close. */
  readonly slow = new Set<string>();
  /** Files that cannot be opened any more. */
  readonly gone = new Set<string>();
  /** Files that the host fails to write all to as they are closed. */
  readonly stuck = new Set<string>();

  open({ path, disk }: HostEndOptions): FakeDisk {
    const file = String(path ?? (disk as HostEndOptions)["path"]);
    if (this.gone.has(file)) throw new NorthbridgeError("NB_HOST", `${file}: there is no such file`);
    if (this.#inUse.has(file)) throw new NorthbridgeError("NB_HOST", `${file}: image is in use`);
    this.#inUse.add(file);
    this.log.push(`open ${file}`);
    const bytes = this.bytes.get(file) ?? new Uint8Array(4096);
    this.bytes.set(file, bytes);
    const backend = new FakeDisk(4096);
    backend.bytes.set(bytes);
    const close = backend.close.bind(backend);
    backend.close = () => {
      this.log.push(`close ${file}`);
      bytes.set(backend.bytes);
      if (this.stuck.has(file))
        return Promise.reject(new NorthbridgeError("NB_HOST", `${file}: cannot close`));
      return close()
        .then(() => (this.slow.has(file) ? new Promise((done) => setImmediate(done)) : undefined))
        .then(() => void this.#inUse.delete(file));
    };
    return backend;
  }
}

let files = new Files();
beforeEach(() => {
  files = new Files();
});
const nets: FakeNet[] = [];

/** A device with these disks, and a card. `fails` when it is restored. */
const box = (
  disks: readonly HostEndOptions[],
  fails = false,
): DevicePluginSpec<never, never> & { disks: BlockBackend[] } => {
  const found: BlockBackend[] = [];
  const { spec } = definePlugin({
    name: "test/box",
    config: AnyConfig,
    async setup(ctx) {
      const ends = ctx.get(HostEnds);
      for (const options of disks) found.push(await ends.block(options, { readOnly: false }));
      (await ends.net({ kind: "fake" })).connect(
        () => true,
        () => undefined,
      );
      return {
        save: () => ({}),
        restore: () => {
          if (fails) throw new Error("not today");
        },
      };
    },
  });
  return { ...spec, disks: found };
};

async function start(first: DevicePluginSpec<never, never>) {
  const reloadable = new ReloadableDevice(first);
  const bench = await testBench(
    { spec: reloadable.spec, input: {} },
    {
      prepare: (machine) =>
        machine.provide(HostEnds, {
          block: (options) => Promise.resolve().then(() => files.open(options)),
          char: () => Promise.reject(new Error("none")),
          net: () => {
            nets.push(new FakeNet());
            return Promise.resolve(nets.at(-1)!);
          },
          directory: () => Promise.reject(new Error("none")),
          vsock: () => Promise.reject(new Error("none")),
        }),
    },
  );
  return { reloadable, bench };
}

const A = { kind: "file", path: "a.img" };
const B = { kind: "file", path: "b.img" };
const block = (value: number): Uint8Array => new Uint8Array(512).fill(value);
async function contentOf(disk: BlockBackend | undefined): Promise<number | undefined> {
  const found = new Uint8Array(512);
  await disk?.read(0, [found]);
  return found[0];
}

describe("disks of a device whose code is replaced", () => {
  it.each([
    ["other options", { ...A, readOnly: true }],
    ["another kind around it", { kind: "faulty", disk: A }],
  ])("may be the same file with %s", async (_what, changed) => {
    const old = box([A]);
    const { reloadable, bench } = await start(old);
    await old.disks[0]?.write(0, [block(7)]);
    const next = box([changed]);
    await reloadable.replace(next, {});
    expect(files.log).toEqual(["open a.img", "close a.img", "open a.img"]);
    expect(await contentOf(next.disks[0])).toBe(7);
    await bench.close();
    expect(files.log.slice(3)).toEqual(["close a.img"]);
  });

  it("are the same ones in another order, beside a new one", async () => {
    const { reloadable, bench } = await start(box([A]));
    await reloadable.replace(box([B, A]), {});
    await reloadable.replace(box([A, B]), {});
    expect(files.log).toEqual(["open a.img", "open b.img"]);
    await reloadable.replace(box([B]), {});
    expect(files.log.slice(2)).toEqual(["close a.img"]);
    await bench.close();
    expect(files.log.slice(3)).toEqual(["close b.img"]);
  });

  it.each([
    [
      "cannot be opened",
      [
        { ...A, readOnly: true },
        { kind: "file", path: "none.img" },
      ],
      false,
      "none.img: there is no such file",
    ],
    ["fails", [{ ...A, readOnly: true }, B], true, "not today"],
  ] as const)(
    "are the old code's again, with what is in them, where the new %s",
    async (_what, disks, fails, reason) => {
      files.gone.add("none.img");
      const old = box([A, B]);
      const { reloadable, bench } = await start(old);
      await old.disks[0]?.write(0, [block(7)]);
      await expect(reloadable.replace(box(disks, fails), {})).rejects.toThrow(reason);
      expect(await contentOf(old.disks[0])).toBe(7);
      await old.disks[0]?.write(0, [block(8)]);
      expect(await contentOf(old.disks[0])).toBe(8);
      const next = box([{ ...A, readOnly: true }, B]);
      await reloadable.replace(next, {});
      expect(await contentOf(next.disks[0])).toBe(8);
      await bench.close();
      const count = (what: string): number => files.log.filter((line) => line === what).length;
      expect(count("open a.img")).toBe(count("close a.img"));
      expect(count("open b.img")).toBe(count("close b.img"));
    },
  );

  it("are given up all, where the host fails to close one", async () => {
    const { reloadable, bench } = await start(box([A, B]));
    files.stuck.add("a.img");
    await expect(reloadable.replace(box([]), {})).rejects.toThrow("a.img: cannot close");
    expect(files.log.slice(2)).toEqual(["close a.img", "close b.img"]);
    await bench.close();
  });

  it("are the old code's again, and so is its cable, where the host fails to close the new ones", async () => {
    const old = box([A]);
    const { reloadable, bench } = await start(old);
    const [net] = nets.slice(-1);
    const connect = vi.spyOn(net!, "connect");
    files.stuck.add("b.img");
    await expect(reloadable.replace(box([B], true), {})).rejects.toThrow("not today");
    expect(connect).toHaveBeenCalledTimes(2);
    expect(await contentOf(old.disks[0])).toBe(0);
    await bench.close();
  });

  it("are closed where the machine ends before the new code is ready, and so is what that opens late", async () => {
    const { reloadable, bench } = await start(box([A]));
    const begun = Promise.withResolvers<undefined>();
    const goOn = Promise.withResolvers<undefined>();
    const next = box([B, A]);
    const setup: typeof next.setup = async (ctx, config) => {
      begun.resolve(undefined);
      await goOn.promise;
      return await next.setup(ctx, config);
    };
    const replaced = reloadable.replace({ ...next, setup }, {});
    await begun.promise;
    await bench.close();
    expect(files.log).toEqual(["open a.img", "close a.img"]);
    goOn.resolve(undefined);
    await expect(replaced).rejects.toThrow("the machine has ended");
    expect(files.log.slice(2)).toEqual(["open b.img", "close b.img"]);
  });

  it("may be those of the old code with other options, opened all at once", async () => {
    const { reloadable, bench } = await start(box([B, A]));
    files.slow.add("b.img");
    const next = box([]);
    const setup: typeof next.setup = async (ctx, config) => {
      const ends = ctx.get(HostEnds);
      await Promise.all([A, B].map((disk) => ends.block({ ...disk, readOnly: true }, { readOnly: true })));
      return next.setup(ctx, config);
    };
    await reloadable.replace({ ...next, setup }, {});
    await bench.close();
    expect(files.log.filter((line) => line.startsWith("close"))).toHaveLength(4);
  });

  it("are the old code's again where the new one fails before all that it opens at once is there", async () => {
    const old = box([A]);
    const { reloadable, bench } = await start(old);
    await old.disks[0]?.write(0, [block(7)]);
    const next = box([]);
    const setup: typeof next.setup = async (ctx) => {
      const opened = ctx.get(HostEnds).block({ ...A, readOnly: true }, { readOnly: true });
      await Promise.all([opened, Promise.reject(new Error("not today"))]);
      return {};
    };
    await expect(reloadable.replace({ ...next, setup }, {})).rejects.toThrow(/^not today$/);
    await new Promise((resolve) => setImmediate(resolve));
    expect(await contentOf(old.disks[0])).toBe(7);
    await old.disks[0]?.write(0, [block(8)]);
    await bench.close();
    expect(files.bytes.get("a.img")?.[0]).toBe(8);
    expect(files.log).toEqual([
      "open a.img",
      "close a.img",
      "open a.img",
      "close a.img",
      "open a.img",
      "close a.img",
    ]);
  });

  it("are told of where the old code cannot have them back", async () => {
    const old = box([A]);
    const { reloadable, bench } = await start(old);
    const changed = { ...A, readOnly: true };
    const next = box([changed]);
    const setup: typeof next.setup = async (ctx, config) => {
      await next.setup(ctx, config);
      files.gone.add("a.img");
      throw new Error("not today");
    };
    await expect(reloadable.replace({ ...next, setup }, {})).rejects.toThrow(
      "not today; and what the old code had open is gone: a.img: there is no such file",
    );
    await bench.close();
  });
});
