/** Records `golden/sse.bin.gz` on this host: `node --conditions=northbridge-source test/sse/record-golden.ts`. */
import { CASE_SIZE, type Encoding } from "./case.ts";
import { loadCore } from "./core.ts";
import { digest, isApproximation, outcome, trials } from "./differential.ts";
import { knownEncodings } from "./encodings.ts";
import { writeGolden } from "./golden.ts";
import { buildHarness, executeOnHost } from "./host.ts";

const SEED = 20250117;
/** Floating-point instructions have more corners than the others. */
const count = ({ map, opcode }: Encoding): number => {
  if (map === 3) return (opcode >= 8 && opcode <= 11) || (opcode >= 0x40 && opcode <= 0x41) ? 320 : 192;
  return map === 1 && ((opcode >= 0x2a && opcode <= 0x5f) || [0xc2, 0x7c, 0x7d, 0xd0, 0xe6].includes(opcode))
    ? 320
    : 128;
};

buildHarness();
const core = await loadCore();
const entries = knownEncodings(core)
  .filter((encoding) => !isApproximation(encoding))
  .map((encoding) => {
    const cases = trials(core, encoding, SEED, count(encoding));
    const results = executeOnHost(new Uint8Array(Buffer.concat(cases.map(({ input }) => input))));
    const digests = cases.map(
      (_, i) => digest(outcome(results.subarray(i * CASE_SIZE, (i + 1) * CASE_SIZE))) & 0xffff,
    );
    return { encoding, digests: Uint16Array.from(digests) };
  });
writeGolden({ seed: SEED, entries });
console.log(`${entries.length} encodings`);
