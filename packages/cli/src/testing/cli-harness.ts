import { PassThrough } from "node:stream";
import { PluginRegistry } from "@northbridge/core";
import type { Hypervisor, MachineType } from "@northbridge/core/contracts";
import { debugConsole, FakeHypervisor, type FakeStep, powerPort } from "@northbridge/core/testing";
import { runCli } from "../cli.ts";
import type { CliHost } from "../host.ts";

/** A machine type with a console at port 0xe9 and a power port at 0xf4. */
export const fake1: MachineType = {
  name: "fake-1",
  layout: "flat",
  devices: () => [debugConsole({}, { id: "console" }), powerPort({}, { id: "power" })],
};

/** A terminal, or two pipes, and what passed through them. */
export class CliHarness {
  readonly stdin: PassThrough & { isTTY: boolean; readonly raw: boolean[]; setRawMode(mode: boolean): void };
  readonly #out: PassThrough;
  readonly #err: PassThrough;
  readonly host: CliHost;

  constructor(
    hypervisor: Hypervisor,
    options: { readonly isTTY?: boolean; readonly registry?: PluginRegistry } = {},
  ) {
    const raw: boolean[] = [];
    const { isTTY = false, registry = new PluginRegistry([debugConsole, powerPort], [fake1]) } = options;
    this.#out = Object.assign(new PassThrough(), { isTTY });
    this.#err = Object.assign(new PassThrough(), { isTTY });
    const setRawMode = (mode: boolean): void => void raw.push(mode);
    this.stdin = Object.assign(new PassThrough(), { isTTY, raw, setRawMode });
    this.host = {
      stdin: this.stdin as unknown as NodeJS.ReadStream,
      stdout: this.#out as unknown as NodeJS.WriteStream,
      stderr: this.#err as unknown as NodeJS.WriteStream,
      registry: () => Promise.resolve(registry),
      hypervisor: () => hypervisor,
    };
  }

  /** Everything written to standard output and error since the last look. */
  taken(): { readonly out: string; readonly err: string } {
    const take = (stream: PassThrough): string => (stream.read() as Buffer | null)?.toString() ?? "";
    return { out: take(this.#out), err: take(this.#err) };
  }

  async run(
    ...args: readonly string[]
  ): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
    const code = await runCli(args, this.host);
    return { code, ...this.taken() };
  }
}

/** Runs one command line against a guest that does `program`. */
export const runFake = (
  program: readonly FakeStep[],
  ...args: readonly string[]
): ReturnType<CliHarness["run"]> => new CliHarness(new FakeHypervisor(program)).run(...args);

/** Steps that print `text` at port 0xe9. */
export const print = (text: string): FakeStep[] =>
  Array.from(text, (char) => (_vm, { ports }) => {
    ports.write(0xe9, 1, char.charCodeAt(0));
    return undefined;
  });

/** A step that powers off (0), resets (1), panics (2) or pauses (3). */
export const power =
  (value: 0 | 1 | 2 | 3): FakeStep =>
  (_vm, { ports }) => {
    ports.write(0xf4, 1, value);
    return undefined;
  };
