import type { TestBench } from "../bench/test-bench.ts";
import { benchFor, type DeviceUnderTest, regionsOf } from "./device-under-test.ts";
import { discoverRegisters, knownByTrying } from "./discover-registers.ts";
import { knownRegisters, type Place } from "./program.ts";

/** What programs for a device are made of. */
export interface Grammar {
  readonly places: readonly Place[];
  readonly memoryBytes: number;
}

const grammars = new WeakMap<DeviceUnderTest, Promise<Grammar>>();

/** Where the device answers, and the registers there: by its map, or else as they are found by trying. Made once. */
export function grammarOf(device: DeviceUnderTest): Promise<Grammar> {
  const grammar = grammars.get(device) ?? makeGrammar(device);
  grammars.set(device, grammar);
  return grammar;
}

async function makeGrammar(device: DeviceUnderTest): Promise<Grammar> {
  const bench = await benchFor(device);
  const memoryBytes = bench.memory.bytes.length;
  return {
    places: device.registers === undefined ? await tried(device, bench) : mapped(device, bench),
    memoryBytes,
  };
}

const SPACES = ["mmio", "ports"] as const;

function mapped({ registers }: DeviceUnderTest, bench: TestBench): readonly Place[] {
  const { region: known } = bench.registerRegion();
  const named = registers === undefined ? [] : knownRegisters(registers);
  return SPACES.flatMap((space) =>
    regionsOf(bench, space).map((region) => {
      const { base, length } = region;
      return { space, base, length, registers: region === known ? named : [] };
    }),
  );
}

async function tried(device: DeviceUnderTest, bench: TestBench): Promise<readonly Place[]> {
  const found = await discoverRegisters(device);
  return SPACES.flatMap((space) =>
    regionsOf(bench, space).map(({ base, length, name }) => {
      const here = found.filter((register) => register.space === space && register.region === name);
      return { space, base, length, registers: knownByTrying(here) };
    }),
  );
}
