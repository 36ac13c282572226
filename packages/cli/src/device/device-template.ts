/** What code calls the device of that kebab-case name. */
export const camelCase = (name: string): string =>
  name.replaceAll(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/**
 * The files of a new device project by path. `name` is kebab-case.
 * @param packages specifiers of our packages by name, each of them; the registry's where absent
 */
export function deviceTemplate(
  name: string,
  packages?: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const camel = camelCase(name);
  return {
    "package.json": `${JSON.stringify(manifest(name, packages), undefined, 2)}\n`,
    "tsconfig.json": `${JSON.stringify(TSCONFIG, undefined, 2)}\n`,
    [`${name}.ts`]: device(name, camel),
    [`${name}.test.ts`]: test(name, camel),
    "machine.config.ts": machine(name, camel),
    "README.md": readme(name),
  };
}

const manifest = (
  name: string,
  {
    "@northbridge/sdk": sdk = "*",
    "@northbridge/cli": cli = "*",
    ...others
  }: Readonly<Record<string, string>> = {},
): object => ({
  name,
  version: "0.0.0",
  type: "module",
  scripts: { test: "vitest run", start: "northbridge run machine.config.ts" },
  dependencies: { "@northbridge/sdk": sdk, valibot: "^1.5.0" },
  devDependencies: {
    "@northbridge/cli": cli,
    // npm takes these for what our packages ask for among themselves.
    ...others,
    "@types/node": "^24.19.2",
    "fast-check": "^4.10.2",
    // vitest needs it too; `npm test` finds this one before an older one of the host's.
    node: "^24.0.0",
    typescript: "^6.0.3",
    vitest: "^5.1.1",
  },
});

const TSCONFIG = {
  compilerOptions: {
    target: "es2024",
    lib: ["es2024", "esnext.disposable"],
    types: ["node"],
    module: "nodenext",
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    skipLibCheck: true,
  },
  include: ["*.ts"],
};

const device = (
  name: string,
  camel: string,
): string => `import { bit, definePlugin, type RegisterState, registerMap } from "@northbridge/sdk";
import * as v from "valibot";

/** The registers. Everything else comes from this: decoder, saved state, tests, fuzzer. */
export const registers = registerMap("${name}", {
  CTRL: { offset: 0x0, fields: { ENABLE: bit(0), IRQ: bit(1) } },
  STATUS: { offset: 0x4, access: "w1c", fields: { DONE: bit(0) } },
  DELAY: { offset: 0x8, reset: 1000, description: "Microseconds" },
});
const { CTRL, STATUS } = registers.masks;

/** Sets STATUS.DONE a while after CTRL.ENABLE, and interrupts. */
export const ${camel} = definePlugin({
  name: "${name}/${camel}",
  config: v.strictObject({ base: v.optional(v.number(), 0xfe80_0000), gsi: v.optional(v.number(), 10) }),
  setup(ctx, { base, gsi }) {
    const line = ctx.irq(gsi);
    const isRaised = () => (regs.values.CTRL & CTRL.IRQ) !== 0 && regs.values.STATUS !== 0;
    const timer = ctx.clock.createTimer(() => {
      regs.values.STATUS |= STATUS.DONE;
      line.set(isRaised());
    });
    const enable = (stored: number, previous: number) => {
      if ((stored & CTRL.ENABLE) === 0) timer.disarm();
      else if ((previous & CTRL.ENABLE) === 0) timer.arm(ctx.clock.nowNs() + regs.values.DELAY * 1000);
    };
    const regs = registers.create({ hooks: { CTRL: { write: enable } }, sync: () => line.set(isRaised()) });
    ctx.mapMmio({ base, length: registers.length }, regs.handler);
    return {
      reset() {
        regs.reset();
        timer.disarm();
        line.set(false);
      },
      save: () => ({ regs: regs.save(), doneNs: timer.deadlineNs ?? null }),
      restore(state: { regs: RegisterState; doneNs: number | null }) {
        regs.restore(state.regs);
        if (state.doneNs !== null) timer.arm(state.doneNs);
        line.adopt(isRaised());
      },
    };
  },
});
`;

const test = (name: string, camel: string): string => `import { existsSync } from "node:fs";
import { builtInHypervisor, builtInRegistry } from "@northbridge/cli";
import { deviceConformance } from "@northbridge/sdk/fuzz";
import { bootLinux } from "@northbridge/sdk/host";
import { testBench } from "@northbridge/sdk/testing";
import { deviceMatchers } from "@northbridge/sdk/vitest";
import { describe, expect, it } from "vitest";
import { registers, ${camel} } from "./${name}.ts";

expect.extend(deviceMatchers);

describe("on a test bench", () => {
  it("interrupts when it is done", async () => {
    const bench = await testBench(${camel}(), { registers });
    bench.regs.DELAY.write(50);
    bench.regs.CTRL.write({ ENABLE: 1, IRQ: 1 });
    expect(bench).not.toRaiseInterrupt(() => bench.clock.advance(49_999));
    expect(bench).toRaiseInterrupt(() => bench.clock.advance(1), { gsi: 10 });
    expect(bench.regs.STATUS.fields()).toEqual({ DONE: 1 });
  });
});

deviceConformance({ describe, it }, { create: () => ${camel}(), registers, code: "${camel}()" });

describe("under Linux", () => {
  it("is done for the guest", { timeout: 600_000 }, async (context) => {
    context.skip(!existsSync("guest/vmlinuz"), "no guest: npx northbridge guest linux --out guest");
    await using linux = await bootLinux({
      hypervisor: builtInHypervisor("soft"),
      registry: builtInRegistry(),
      kernel: "guest/vmlinuz",
      initrd: "guest/initrd.img",
      devices: [${camel}()],
    });
    const guest = await linux.guest();
    const { stdout } = await guest.exec("devmem 0xfe800000 32 1; sleep 1; devmem 0xfe800004");
    expect(stdout).toBe("0x00000001\\n");
  });
});
`;

const machine = (name: string, camel: string): string => `import { defineMachine } from "@northbridge/sdk";
import { ${camel} } from "./${name}.ts";

export default defineMachine({
  name: "${name}",
  memory: { mib: 256 },
  boot: { kernel: "guest/vmlinuz", initrd: "guest/initrd.img", cmdline: "console=ttyS0 cryptomgr.notests" },
  onReset: "stop",
  devices: [${camel}()],
});
`;

const readme = (name: string): string => `# ${name}

\`\`\`sh
npm install
npx northbridge guest linux --out guest    # a stock kernel, once
npm test                                   # bench, fuzzer, and under Linux
npm start                                  # a machine with the device
\`\`\`
`;
