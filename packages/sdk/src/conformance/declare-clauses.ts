/** The part of a test framework that suites of clauses need: vitest's `describe` and `it` are it. */
export interface ClauseHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: (context: { readonly skip: (note: string) => void }) => Promise<void>): void;
}

/** What every clause's test has. */
export interface Skipping {
  /** The clause says nothing about what is tried. Does not return. */
  readonly skip: (note: string) => never;
}

/** A MUST (or, where it says so, a SHOULD) of a specification, as a test that throws where it does not hold. */
export interface SpecClause<C extends Skipping> {
  /** Where it stands: `2.7.5.1`, or a heading. */
  readonly section: string;
  readonly says: string;
  run(context: C): Promise<void>;
}

/** How the clauses of one suite are tried. */
export interface ClauseSuite<C extends Skipping> {
  readonly clauses: readonly SpecClause<C>[];
  /** Clauses that do not hold, and are known not to, by the beginning of `says`: they are expected to fail. */
  readonly violates: readonly string[];
  /** What to try, for each clause anew. */
  readonly open: () => Promise<{
    readonly context: Omit<C, "skip">;
    readonly close: () => Promise<void>;
  }>;
}

/** Declares one test for each clause. */
export function declareClauses<C extends Skipping>(
  hooks: ClauseHooks,
  title: string,
  { clauses, violates, open }: ClauseSuite<C>,
): void {
  hooks.describe(title, () => {
    for (const clause of clauses) {
      const isKnown = violates.some((known) => clause.says.startsWith(known));
      hooks.it(`§${clause.section}: ${clause.says}`, async ({ skip }) => {
        const { context, close } = await open();
        try {
          const violation = await violationOf(clause, context, skip);
          if (isKnown && violation === undefined)
            throw new Error("the clause holds, and is listed as violated");
          if (!isKnown && violation !== undefined) throw violation;
        } finally {
          await close();
        }
      });
    }
  });
}

async function violationOf<C extends Skipping>(
  clause: SpecClause<C>,
  context: Omit<C, "skip">,
  skip: (note: string) => void,
): Promise<Error | undefined> {
  let skipped: string | undefined;
  const never = (note: string): never => {
    skipped = note;
    throw new Error(note);
  };
  try {
    await clause.run({ ...context, skip: never } as unknown as C);
  } catch (error) {
    if (skipped !== undefined) {
      skip(skipped);
      return undefined;
    }
    return error instanceof Error ? error : new Error(String(error));
  }
  return undefined;
}
