/** A test framework's two words. */
export interface SuiteHooks {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

/** Throws where what was found is not what the contract says. */
export function expectEqual(what: string, found: unknown, expected: unknown): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
}

/** Throws unless `promise` rejects with a `NorthbridgeError` of this code. */
export async function expectRejection(
  what: string,
  code: string,
  run: () => Promise<unknown>,
): Promise<void> {
  let found: unknown = "it resolved";
  try {
    await run();
  } catch (error) {
    found = (error as { readonly code?: unknown }).code ?? String(error);
  }
  expectEqual(what, found, code);
}
