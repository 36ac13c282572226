import { closeSync, openSync } from "node:fs";
import { close } from "@northbridge/linux";
import { Listener } from "../src/backend/listener.ts";

// Listens at a socket with no descriptor left for who comes, until it is told to make room; serves one connection.
const listener = new Listener(process.argv[2] ?? "", (fd) => {
  close(fd);
  listener.close();
  console.log("served");
  return Promise.resolve();
});

const taken: number[] = [];
process.stdin.once("data", () => {
  // Whoever has come by now has been looked at in this turn of the loop.
  setImmediate(() => {
    setImmediate(() => {
      for (const fd of taken) closeSync(fd);
      process.stdin.destroy();
    });
  });
});
try {
  for (;;) taken.push(openSync("/dev/null", "r"));
} catch (error) {
  console.log((error as NodeJS.ErrnoException).code);
}
