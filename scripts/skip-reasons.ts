import type { Reporter, TestCase, TestModule, TestSuite, Vitest } from "vitest/node";

/** What was skipped, and why: what `context.skip` was told, or what its name says that it needs. */
interface Skip {
  readonly file: string;
  readonly name: string;
  readonly reason: string | undefined;
}

/**
 * Says at the end of a run what was skipped and why, a line for each suite, test or reason: with nothing printed a suite that never
 * runs looks like one that passes. Tests that a name pattern leaves out are not said.
 */
export default class SkipReasons implements Reporter {
  #isPartial = false;

  onInit(vitest: Vitest): void {
    this.#isPartial = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (this.#isPartial) return;
    const groups = modules.flatMap((module) => [
      ...Map.groupBy(skipsIn(module), ({ file, name, reason }) => `${file} ${reason ?? name}`).values(),
    ]);
    if (groups.length === 0) return;
    process.stdout.write("\nSkipped:\n");
    for (const [first, ...others] of groups) {
      if (first === undefined) continue;
      const { file, name, reason } = first;
      const more = others.length === 0 ? "" : ` and ${others.length} more`;
      process.stdout.write(`  ${file}: ${name}${more}${reason === undefined ? "" : `: ${reason}`}\n`);
    }
  }
}

function* skipsIn(module: TestModule): Iterable<Skip> {
  const file = module.relativeModuleId;
  const within = function* (parent: TestModule | TestSuite, path: string): Iterable<Skip> {
    for (const child of parent.children) {
      const name = path === "" ? child.name : `${path} > ${child.name}`;
      if (child.type === "test") {
        if (isSkipped(child)) yield { file, name, reason: noteOf(child) };
        continue;
      }
      const tests = [...child.children.allTests()];
      const notes = new Set(tests.map(noteOf));
      const isOne = tests.length > 0 && tests.every(isSkipped) && notes.size === 1;
      if (isOne) yield { file, name, reason: [...notes][0] };
      else yield* within(child, name);
    }
  };
  yield* within(module, "");
}

const isSkipped = (test: TestCase): boolean => test.result().state === "skipped";

function noteOf(test: TestCase): string | undefined {
  const result = test.result();
  return result.state === "skipped" ? result.note : undefined;
}
