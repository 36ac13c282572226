/** Writes ../golden/int-vectors.br from this host's processor: `node --conditions=northbridge-source generate-golden.ts [count]`. */
import { writeFileSync } from "node:fs";
import { packGolden } from "./golden.ts";
import { randomVector } from "./int-generator.ts";
import { nativeExecutor } from "./native.ts";
import { Random } from "./random.ts";
import { isPromised, registerPool } from "./vector.ts";

const count = Number(process.argv[2] ?? "12000");
const executor = nativeExecutor();
if (executor === undefined) throw new Error("golden vectors need an x86-64 Linux host with /usr/bin/gcc");
const random = new Random(20240601);
const pool = registerPool(1);
const drawn = Array.from({ length: count }, () => randomVector(random, pool));
const outcomes = executor.run(drawn, pool);
executor.close();
const kept = drawn.flatMap((vector, i) => {
  const outcome = outcomes[i];
  return outcome !== undefined && isPromised(vector, outcome) ? [{ vector, outcome }] : [];
});
const file = packGolden(
  kept.map((k) => k.vector),
  kept.map((k) => k.outcome),
  pool,
);
writeFileSync(new URL("../golden/int-vectors.br", import.meta.url), file);
console.log(`${kept.length.toString()} vectors, ${file.length.toString()} bytes`);
