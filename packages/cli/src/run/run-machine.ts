import {
  createMachine,
  expectUnused,
  type Machine,
  type MachineOptions,
  type PluginRegistry,
  StdioBackend,
  WatchedConsole,
} from "@northbridge/core";
import {
  type ByteSink,
  DeviceFault,
  type Hypervisor,
  type LifecycleState,
  type MachineConfig,
  NorthbridgeError,
  type StopReason,
} from "@northbridge/core/contracts";
import { ExitCode, exitCodeOfStop } from "../exit-codes.ts";
import { type CliHost, CommandFailed } from "../host.ts";
import { ESCAPE_HELP, EscapeKeys } from "../terminal/escape-keys.ts";
import { LineEditor } from "../terminal/line-editor.ts";
import { Monitor } from "../terminal/monitor.ts";
import { isSharedOutput } from "../terminal/shared-output.ts";
import { serveMonitor } from "../terminal/monitor-socket.ts";
import { DeviceWatch } from "./device-watch.ts";
import { endOnSignals, onUncaught } from "./end-on-signals.ts";
import { howToReplay } from "../trace/how-to-replay.ts";
import { FileRecording } from "../trace/record-to-file.ts";
import { hypervisorFor } from "./hypervisor-for.ts";
import { detectPanic } from "./panic-detector.ts";
import { resolveConfig } from "./resolve-config.ts";
import type { RunOptions } from "./run-options.ts";
import { reclaimPages } from "./reclaim-pages.ts";
import { saveFault } from "./save-fault.ts";
import type { SaveOn } from "./save-on.ts";
import { expectWritable, RunStatistics } from "./statistics.ts";

const MINUTE_MS = 60_000;

/** Runs one machine from its creation to its end and resolves with the exit code. */
export async function runMachine(options: RunOptions, host: CliHost): Promise<number> {
  const { config, ...source } = await resolveConfig(options);
  // Which devices are the command's own, a watch can tell only with all of them.
  const registry = await host.registry(options.watch === true ? undefined : config);
  for (const kind of source.hostEnds) registry.hostEnds.add(kind);
  // What would fail at the end is said at the start.
  if (options.stats !== undefined) await expectWritable(options.stats);
  if (options.saveOn !== undefined) await expectUnused(options.saveOn.directory);
  const hypervisor = await chooseHypervisor(config, options, host);
  using recording = options.record === undefined ? undefined : new FileRecording(options.record);
  const run = new Run(host);
  using watch = watchFor(options, hypervisor, registry, run);
  const adapt: MachineOptions["adapt"] = (spec, id) => {
    const recorded = recording?.adapt(spec, id) ?? spec;
    return watch?.adapt(recorded, id) ?? recorded;
  };
  let machine: Machine;
  try {
    machine = await createMachine({
      config,
      hypervisor,
      registry,
      console: run.console,
      log: run.log,
      onState: run.onState,
      onPause: run.onPause,
      reclaimPages,
      adapt,
    });
  } catch (error) {
    throw source.explain(error);
  }
  try {
    recording?.expectDevice();
    watch?.start(machine);
  } catch (error) {
    await machine.stop();
    throw error;
  }
  return await run.toEnd(machine, new RunStatistics(machine, hypervisor.name), options);
}

function watchFor(
  { watch, machine, set }: RunOptions,
  hypervisor: Hypervisor,
  registry: PluginRegistry,
  run: Run,
): DeviceWatch | undefined {
  if (watch !== true) return undefined;
  if (machine === undefined)
    throw new NorthbridgeError("NB_CONFIG", "run: --watch: expected a MACHINE, found none");
  const say = (line: string): void => {
    run.tell(line);
  };
  return new DeviceWatch({ file: machine, overrides: set, registry, hypervisor, say });
}

/** What the backend is, is said where it was asked for, and where it is KVM. */
async function chooseHypervisor(
  config: MachineConfig,
  options: RunOptions,
  host: CliHost,
): Promise<Hypervisor> {
  let choice = "";
  const hypervisor = await hypervisorFor(config, host, (line) => (choice = line));
  if (choice !== "" && (options.backend === "auto" || hypervisor.name === "kvm"))
    host.stderr.write(`northbridge: ${choice}\n`);
  return hypervisor;
}

/** One machine on this process's terminal. */
class Run {
  readonly #host: CliHost;
  readonly #stdio: StdioBackend;
  readonly console: WatchedConsole;
  readonly log: ByteSink;
  /** The guest's first instruction follows at once. */
  readonly onState = (state: LifecycleState): void => {
    if (state === "running") this.#statistics?.reach("firstInstruction");
  };
  readonly onPause = (reason: string): void => {
    this.tell(`paused: ${reason}; the monitor's resume tries again`);
  };
  #machine: Machine | undefined;
  #statistics: RunStatistics | undefined;
  /** Set while what is typed goes to the monitor. */
  #editor: LineEditor | undefined;
  /** Overrides the exit code of the stop reason. */
  #exitCode: number | undefined;
  #failure: Error | undefined;
  #hasInput = false;
  #hasTimeout = false;

  constructor(host: CliHost) {
    this.#host = host;
    const keys = new EscapeKeys({
      end: () => void this.#machine?.stop(),
      toggleMonitor: () => {
        this.#toggleMonitor();
      },
      help: () => {
        this.#show(ESCAPE_HELP);
      },
    });
    this.#stdio = new StdioBackend({
      stdin: host.stdin,
      stdout: host.stdout,
      filter: (bytes) => {
        this.#hasInput = true;
        return this.#toGuest(host.stdin.isTTY ? keys.filter(bytes) : bytes);
      },
      onEnd: () => {
        if (this.#hasInput || this.#hasTimeout) return;
        this.tell("standard input is empty; the machine runs until its guest ends it, or --timeout does");
      },
      onLoss: (bytes) => {
        this.tell(`standard output was not read: ${bytes} bytes of the guest's are lost`);
      },
      onError: (error) => {
        // Nobody reads the console any more (EPIPE), or it failed: either way the run is over.
        this.#fail(new CommandFailed(ExitCode.HOST_FAILURE, `the console is gone: ${error.message}`));
      },
    });
    this.console = new WatchedConsole(this.#stdio);
    this.log = { write: (byte) => void host.stderr.write(Uint8Array.of(byte)) };
  }

  async toEnd(machine: Machine, statistics: RunStatistics, options: RunOptions): Promise<number> {
    this.#machine = machine;
    this.#statistics = statistics;
    this.#hasTimeout = options.timeout !== undefined;
    this.#observe(machine, statistics, options);
    const cleanUps: (() => unknown)[] = [
      () => {
        this.#stdio.close();
      },
    ];
    try {
      cleanUps.push(
        endOnSignals((code) => {
          this.#exitCode ??= code;
          void machine.stop();
        }),
      );
      cleanUps.push(
        onUncaught(
          (error) => {
            this.#fail(error);
          },
          (error) => machine.blame(error),
        ),
      );
      if (options.monitor !== undefined) {
        const endMonitor = await serveMonitor(options.monitor, new Monitor(machine));
        cleanUps.push(endMonitor);
      }
      if (options.restore !== undefined) await machine.restore(options.restore);
      const timeout = options.timeout;
      // The second one keeps the process alive while a guest waits for nothing but input that has ended.
      const timers = [
        timeout !== undefined &&
          setTimeout(() => {
            this.#exitCode ??= ExitCode.TIMEOUT;
            this.tell(`the machine did not end within ${timeout} s`);
            void machine.stop();
          }, timeout * 1000),
        setInterval(() => undefined, MINUTE_MS),
      ];
      cleanUps.push(() => {
        for (const timer of timers) if (timer) clearTimeout(timer);
      });
      await machine.start();
      // Not before: a terminal that is raw, and a word on input that has ended, are for machines that run.
      this.#stdio.open();
      const reason = await machine.stopped;
      for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
      return await this.#conclude(reason, statistics, options);
    } finally {
      await machine.stop();
      for (const cleanUp of cleanUps.reverse()) await cleanUp();
    }
  }

  async #conclude(reason: StopReason, statistics: RunStatistics, options: RunOptions): Promise<number> {
    const exitCode = this.#exitCode ?? exitCodeOfStop(reason);
    for (const text of options.expect) {
      if (!statistics.has(text)) this.tell(`the guest never wrote "${text}"`);
    }
    if (options.stats !== undefined) await statistics.writeTo(options.stats, reason, exitCode);
    if (this.#failure !== undefined) throw this.#failure;
    switch (reason.kind) {
      case "panic":
        this.tell(`the guest panicked: ${reason.detail}`);
        break;
      case "tripleFault":
        this.tell(`the guest triple-faulted: ${reason.detail}`);
        break;
      case "halted":
        this.tell("the guest halted for good: every vCPU executed HLT with interrupts off");
        break;
      case "error": {
        const failure = this.#machine?.failure;
        const ids = this.#machine?.devices.map(({ id }) => id) ?? [];
        const replay = failure instanceof DeviceFault ? howToReplay(options, failure.device, ids) : undefined;
        const file = await saveFault(failure, replay);
        const saved =
          (file === undefined ? "" : `; what led to it is in ${file}`) +
          (replay === undefined ? "" : `; to replay all of it: ${replay}`);
        throw new CommandFailed(exitCode, `the machine failed: ${reason.detail}${saved}`, { cause: failure });
      }
      case "powerOff":
      case "reset":
      case "requested":
        break;
    }
    return exitCode;
  }

  #observe(machine: Machine, statistics: RunStatistics, { expect, saveOn }: RunOptions): void {
    const untap = this.console.tap(() => {
      untap();
      statistics.reach("firstConsoleByte");
    });
    for (const text of expect) {
      this.console.watch(text, () => {
        statistics.reach(text);
      });
    }
    detectPanic(this.console, machine, {
      onBegin: (reason) => {
        machine.power.panicBegins(reason);
      },
      onEnd: (reason) => {
        machine.power.panic(reason);
      },
      onWithdraw: () => {
        machine.power.panicWithdrawn();
      },
    });
    if (saveOn !== undefined) this.console.watch(saveOn.text, () => void this.#save(machine, saveOn));
  }

  async #save(machine: Machine, { directory }: SaveOn): Promise<void> {
    try {
      await machine.pause();
      await machine.save(directory);
      this.tell(`saved to ${directory}`);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
    await machine.stop();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    void this.#machine?.stop();
  }

  #toGuest(typed: Uint8Array): Uint8Array {
    if (this.#editor === undefined) return typed;
    this.#editor.type(typed);
    return new Uint8Array();
  }

  #toggleMonitor(): void {
    const machine = this.#machine;
    if (machine === undefined) return;
    if (this.#editor !== undefined) {
      this.#editor = undefined;
      this.#show("back to the guest");
      return;
    }
    const monitor = new Monitor(machine);
    this.#show("the monitor; Ctrl-A c goes back, help lists commands");
    const prompt = (): void => void this.#host.stdout.write("(northbridge) ");
    this.#editor = new LineEditor(
      (text) => void this.#host.stdout.write(text),
      (line) => {
        void monitor.execute(line).then((answer) => {
          if (answer !== "") this.#host.stdout.write(`${answer.replaceAll("\n", "\r\n")}\r\n`);
          prompt();
        });
      },
    );
    prompt();
  }

  /** Text between the guest's output, on a terminal in raw mode. */
  #show(text: string): void {
    this.#stdio.flush();
    this.#host.stdout.write(`\r\n${text.replaceAll("\n", "\r\n")}\r\n`);
  }

  /** One line on standard error, after what the guest has written so far: below it where both are on one terminal. */
  tell(text: string): void {
    this.#stdio.flush();
    const { stdin, stdout, stderr } = this.#host;
    const end = stdin.isTTY ? "\r\n" : "\n";
    const isBehindText = this.#stdio.isLineOpen && isSharedOutput(stdout, stderr);
    stderr.write(`${isBehindText ? end : ""}northbridge: ${text}${end}`);
  }
}
