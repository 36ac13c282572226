import type { TestBench } from "../bench/test-bench.ts";
import type { RegisterMap } from "../registers/register-map.ts";
import type { RegisterSpecs } from "../registers/declaration.ts";
import { type DeviceTrial, deviceTrial } from "./device-trial.ts";
import type { DeviceUnderTest, LawName } from "./device-under-test.ts";
import { operationOf } from "./operation-of.ts";
import type { Step } from "./program.ts";

/** What a law does beside a program: where in it, and with which register and value. */
export interface Experiment {
  readonly cut: number;
  readonly pick: number;
  readonly value: number;
}

/** What a law does at the cut of a program. */
interface Cut {
  perform(trial: DeviceTrial, at: number, experiment: Experiment, map: Registers): Promise<void>;
  /** The same as code. */
  print(at: number, experiment: Experiment, map: Registers): readonly string[];
}

type Registers = RegisterMap<RegisterSpecs> | undefined;

/** A law that every device keeps. */
export interface Law {
  readonly name: LawName;
  /** As the name of a test. */
  readonly title: string;
  /** Whether it says anything of such a device. @defaultValue it does of all */
  readonly isFor?: (bench: TestBench) => boolean;
  readonly cut?: Cut;
}

/** What a law tries of a register: which one is `pick`'s choice. */
function chosenRegister(map: Registers, { pick }: Experiment): { name: string; index: number } | undefined {
  const layout = map?.layouts[pick % map.layouts.length];
  if (map === undefined || layout === undefined) return undefined;
  return { name: layout.name, index: Math.floor(pick / map.layouts.length) % layout.count };
}

/** All of them, in the order in which a campaign tries them: the only list. */
export const LAWS: readonly Law[] = [
  // The contract of `IoHandler`.
  { name: "fuzz", title: "answers every access with a value of its width" },
  {
    name: "register map",
    title: "keeps to its register map",
    cut: {
      async perform(trial, at, experiment, map) {
        if (at === 0) await trial.expectResetValues();
        const chosen = chosenRegister(map, experiment);
        if (chosen !== undefined) await trial.tryRegister(chosen.name, experiment.value, chosen.index);
      },
      print(at, experiment, map) {
        const chosen = chosenRegister(map, experiment);
        if (chosen === undefined) return [];
        const { name, index } = chosen;
        const rest = index === 0 ? "" : `, ${index}`;
        return [
          ...(at === 0 ? ["await trial.expectResetValues();"] : []),
          `await trial.tryRegister("${name}", 0x${experiment.value.toString(16)}${rest});`,
        ];
      },
    },
  },
  // What its author knows of it.
  { name: "data sheet", title: "does what its checker says" },
  {
    // The contract of `Snapshottable`.
    name: "save and restore",
    title: "cannot be told from one saved and restored between any two operations",
    cut: {
      perform: (trial) => trial.saveAndRestore(),
      print: () => ["await trial.saveAndRestore();"],
    },
  },
  {
    // The contract of `Resettable`: nothing of what was before can be seen.
    name: "reset",
    title: "cannot be told from a new one after reset",
    cut: { perform: (trial) => trial.reset(), print: () => ["await trial.reset();"] },
  },
  // One that goes up and down at once is seen by nobody.
  { name: "interrupt levels", title: "holds its interrupt lines" },
  {
    // PCI 3.0 §6.2.2: "A value of 0 disables the device from generating PCI accesses."
    name: "bus master",
    title: "leaves memory alone where it is no bus master",
    isFor: ({ pci }) => pci.functions.length > 0,
    cut: {
      perform(trial) {
        trial.endBusMaster();
        return Promise.resolve();
      },
      print: () => ["trial.endBusMaster();"],
    },
  },
];

/** The laws that there are for a device. */
export function lawsFor({ except = [], pulses, registers, checker }: DeviceUnderTest): readonly Law[] {
  return LAWS.filter(
    ({ name }) =>
      !except.includes(name) &&
      !(name === "interrupt levels" && pulses === true) &&
      !(name === "register map" && registers === undefined) &&
      !(name === "data sheet" && checker === undefined),
  );
}

/** Rejects where `program` shows that the device breaks the law. */
export async function judge(
  law: Law,
  device: DeviceUnderTest,
  program: readonly Step[],
  experiment: Experiment,
): Promise<void> {
  const trial = await deviceTrial(device, law.name);
  const at = experiment.cut % (program.length + 1);
  for (const [index, step] of program.entries()) {
    if (index === at) await law.cut?.perform(trial, at, experiment, device.registers);
    if (step.op === "advance") trial.advance(step.ns);
    else trial.run(operationOf(step));
  }
  if (at === program.length) await law.cut?.perform(trial, at, experiment, device.registers);
  trial.end();
}
