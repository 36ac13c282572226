/**
 * `npm start`: installs, builds, fetches a guest and boots `examples/linux-serial` to a shell. Where no kernel can be
 * had it runs `examples/hello-port` instead. Arguments go to `northbridge run`.
 */
import { join } from "node:path";
import { fetchGuest, linuxExample, northbridge } from "./guest.mjs";
import { setUp } from "./setup.mjs";
import { runToEnd, runMain } from "./step.mjs";
import { runUnattended } from "./unattended.mjs";

await runMain(async () => {
  await setUp();
  const given = process.argv.slice(2);
  const [command, ...args] = northbridge();
  const missing = given.includes("--kernel") ? undefined : await fetchGuest();
  if (missing === undefined) {
    const machine = [...args, "run", join(linuxExample, "machine.yaml"), ...given];
    return process.stdin.isTTY ? runToEnd(command, machine) : runUnattended(command, machine);
  }
  process.stderr.write(
    `northbridge: no kernel to boot: ${missing}\n` +
      "northbridge: to boot your own: npm start -- --kernel FILE --initrd FILE; running examples/hello-port instead\n",
  );
  return runToEnd(command, [...args, "run", join("examples", "hello-port", "machine.config.ts")]);
});
