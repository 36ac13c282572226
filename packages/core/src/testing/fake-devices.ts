import * as v from "valibot";
import {
  type ConfigSchema,
  Console,
  type Device,
  type DeviceContext,
  type DeviceEntry,
  type DevicePluginSpec,
  type Token,
} from "../contracts/index.ts";
import type { RegisteredPlugin } from "../composition/plugin-registry.ts";

/** A plugin and what makes entries of it. */
export type FakePlugin = RegisteredPlugin &
  ((input?: unknown, options?: { readonly id?: string }) => DeviceEntry);

/** A plugin as `definePlugin` of the sdk makes it. */
export function fakePlugin<Out = unknown>(
  name: string,
  setup: (ctx: DeviceContext, config: Out) => Device | Promise<Device>,
  options: {
    requires?: readonly Token<unknown>[];
    provides?: readonly Token<unknown>[];
    config?: ConfigSchema<never, Out>;
  } = {},
): FakePlugin {
  const { config = v.looseObject({}), ...services } = options;
  const spec = { name, config, setup, ...services } as unknown as DevicePluginSpec<never, never>;
  const make = (input: unknown = {}, { id }: { readonly id?: string } = {}): DeviceEntry => ({
    spec,
    input,
    id,
  });
  return Object.assign(make, { pluginName: name, spec });
}

/** Port 0xe9: a byte written goes to the console. Counts them; the count is its state. */
export const debugConsole: FakePlugin = fakePlugin<{ port: number }>(
  "@fake/devices/debug-console",
  (ctx, { port }) => {
    const console = ctx.get(Console);
    let count = 0;
    ctx.mapPorts(
      { base: port, length: 1 },
      {
        read: () => count,
        write: (_offset, _width, value) => {
          count++;
          console.write(value);
        },
      },
    );
    return {
      reset: () => {
        count = 0;
      },
      save: () => ({ version: 1, count }),
      restore: (state) => {
        count = (state as { count: number }).count;
      },
      stats: () => ({ bytes: count }),
    };
  },
  {
    requires: [Console],
    config: v.strictObject({
      port: v.optional(v.pipe(v.number(), v.integer()), 0xe9),
    }) as unknown as ConfigSchema<never, { port: number }>,
  },
);

/** Port 0xf4: 0 powers off, 1 resets, 2 panics, 3 pauses. Repeats what the monitor asks of it. */
export const powerPort: FakePlugin = fakePlugin("@fake/devices/power-port", (ctx) => {
  ctx.mapPorts(
    { base: 0xf4, length: 1 },
    {
      read: () => 0,
      write: (_offset, _width, value) => {
        if (value === 0) ctx.power.powerOff();
        else if (value === 1) ctx.power.reset();
        else if (value === 2) ctx.power.panic("the fake panicked");
        else ctx.power.pause("the fake is full");
      },
    },
  );
  return { monitorCommand: (words) => Promise.resolve(words.join(" ")) };
});
