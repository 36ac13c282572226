import { readFile, writeFile } from "node:fs/promises";
import { fileErrorReason } from "@northbridge/core";
import { type DeviceEntry, NorthbridgeError } from "@northbridge/core/contracts";
import {
  describeTrace,
  expectSameAsTrace,
  readTrace,
  type ReplayOptions,
  shrinkTrace,
  type Trace,
  type TraceRegisters,
} from "@northbridge/sdk/recording";
import { type DeviceModule, loadDeviceModule } from "../device/load-device-module.ts";
import { addRunOptions } from "../commands/run.ts";
import type { RegisterCommand } from "../commands/register-command.ts";
import { ExitCode } from "../exit-codes.ts";
import { type CliHost, CommandFailed } from "../host.ts";
import { runMachine } from "../run/run-machine.ts";
import type { RunOptions } from "../run/run-options.ts";

interface ModuleFlag {
  readonly module?: string;
}

/** As of a machine that was killed. */
const CUT_OFF = "the recording was cut off: what would follow is not known";

/** Adds `trace record`, `replay`, `show` and `shrink`. */
export const registerTrace: RegisterCommand = (program, host, exit) => {
  const trace = program.command("trace").description("record a device of a running machine, and replay it");
  addRunOptions(
    trace
      .command("record")
      .description("run a machine and record everything that crosses the edge of one of its devices")
      .argument("<MACHINE>", "YAML, JSON or a module"),
  )
    .requiredOption("--device <ID>", "which device")
    .requiredOption("--out <FILE>", "where the trace goes")
    .action(
      async (
        machine: string,
        flags: Omit<RunOptions, "machine"> & { readonly device: string; readonly out: string },
      ) => {
        const { device, out, ...options } = flags;
        exit(await runMachine({ ...options, machine, record: { device, file: out } }, host));
      },
    );
  const withModule = (name: string, description: string) =>
    trace
      .command(name)
      .description(description)
      .argument("<FILE>", "a trace")
      .option("--module <FILE>", "a module that exports the device's plugin and register map");
  withModule("show", "print a trace, with the names of registers and fields that the module has").action(
    async (file: string, { module }: ModuleFlag) => {
      const recorded = await loadTrace(file);
      const { registers } = namesFrom(
        recorded,
        module === undefined ? undefined : await loadNames(file, recorded, module),
      );
      const { device, clock } = recorded.header;
      host.stdout.write(`# device ${device.id} (${device.plugin}), ${clock.kind} clock\n`);
      for (const line of describeTrace(recorded, registers)) host.stdout.write(`${line}\n`);
      if (recorded.isTruncated) host.stdout.write(`# ${CUT_OFF}\n`);
    },
  );
  withModule("replay", "drive the device by a trace, without its guest, and compare").action(
    async (file: string, { module }: ModuleFlag) => {
      const subject = await loadSubject(file, module, host);
      try {
        await expectSameAsTrace(subject.trace.bytes, subject.entry, subject.options);
      } catch (error) {
        host.stdout.write(`${error instanceof Error ? error.message : String(error)}\n`);
        throw new CommandFailed(
          ExitCode.HOST_FAILURE,
          `${file}: the device does something else than the recorded one`,
        );
      }
      const { records, isTruncated } = subject.trace;
      const cutOff = isTruncated ? `; ${CUT_OFF}` : "";
      host.stdout.write(`${file}: the device does the same, ${records.length} records${cutOff}\n`);
    },
  );
  withModule("shrink", "cut a trace to the shortest beginning on which the device fails")
    .requiredOption("--out <FILE>", "where the shorter trace goes")
    .action(async (file: string, { module, out }: ModuleFlag & { readonly out: string }) => {
      const { trace: recorded, entry, options } = await loadSubject(file, module, host);
      const shorter = await shrinkTrace(recorded.bytes, entry, options);
      if (shorter === undefined) {
        throw new CommandFailed(ExitCode.HOST_FAILURE, `${file}: the device does not fail on this trace`);
      }
      await writeFile(out, shorter).catch((error: unknown) => {
        throw new NorthbridgeError("NB_HOST", `${out}: cannot write the trace: ${fileErrorReason(error)}`, {
          cause: error,
        });
      });
      const { records } = readTrace(shorter);
      host.stdout.write(`${out}: ${records.length} of ${recorded.records.length} records\n`);
    });
};

/** A module that has the device's plugin, or none and register maps. Throws `NB_CONFIG`. */
async function loadNames(file: string, trace: Trace, module: string): Promise<DeviceModule> {
  const loaded = await loadDeviceModule(module);
  const { plugin } = trace.header.device;
  const isOfDevice = loaded.plugins.some(({ pluginName }) => pluginName === plugin);
  const isMapsAlone = loaded.plugins.length === 0 && loaded.registers.size > 0;
  if (!isOfDevice && !isMapsAlone) throw noPlugin(`${file}: ${module}: expected the plugin`, plugin, loaded);
  return loaded;
}

function noPlugin(expected: string, wanted: string, module: DeviceModule | undefined): NorthbridgeError {
  const found = module?.plugins.map(({ pluginName }) => pluginName).join(", ") ?? "";
  return new NorthbridgeError("NB_CONFIG", `${expected} ${wanted}, found ${found || "none"}`);
}

interface Subject {
  readonly trace: Trace;
  readonly entry: DeviceEntry;
  readonly options: ReplayOptions;
}

/** A trace and the device to judge by it: the module's plugin, where it has any, or one that comes with the command. */
async function loadSubject(file: string, module: string | undefined, host: CliHost): Promise<Subject> {
  const trace = await loadTrace(file);
  const loaded = module === undefined ? undefined : await loadDeviceModule(module);
  const wanted = trace.header.device.plugin;
  // Who says which module means that one's device.
  const own = loaded?.plugins ?? [];
  const found =
    own.length > 0 ? own : (await host.registry()).plugins.map((spec) => ({ pluginName: spec.name, spec }));
  const plugin = found.find(({ pluginName }) => pluginName === wanted);
  if (plugin === undefined) {
    const where =
      module === undefined ? "expected --module FILE with the plugin" : `${module}: expected the plugin`;
    throw noPlugin(`${file}: ${where}`, wanted, loaded);
  }
  return { trace, entry: { spec: plugin.spec, input: {} }, options: namesFrom(trace, loaded) };
}

/** Register maps by the region that has the map's name; a module's only map is that of the device's first region. */
function namesFrom(trace: Trace, module: DeviceModule | undefined): { readonly registers?: TraceRegisters } {
  const [first] = module?.registers.values() ?? [];
  if (module === undefined || first === undefined) return {};
  if (module.registers.size === 1) return { registers: first };
  const { id } = trace.header.device;
  return { registers: { "": module.registers.get(id) ?? first, ...Object.fromEntries(module.registers) } };
}

async function loadTrace(file: string): Promise<Trace> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    throw new NorthbridgeError("NB_CONFIG", `${file}: cannot read the trace: ${fileErrorReason(error)}`, {
      cause: error,
    });
  }
  try {
    return readTrace(bytes);
  } catch (error) {
    if (!(error instanceof NorthbridgeError)) throw error;
    throw new NorthbridgeError(error.code, `${file}: ${error.message}`, { cause: error });
  }
}
