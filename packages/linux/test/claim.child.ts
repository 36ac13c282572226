import { CannotListen, ListeningSocket } from "../src/index.ts";

// Tries to listen at each path of its command line, once its input ends, and says at which it does: until it is killed.
process.stdin.resume().once("end", () => {
  const had = process.argv.slice(2).map((path) => {
    try {
      ListeningSocket.at(path);
      return true;
    } catch (error) {
      if (!(error instanceof CannotListen) || error.reason !== "somebody listens there") throw error;
      return false;
    }
  });
  console.log(JSON.stringify(had));
  setInterval(() => undefined, 1000);
});
console.log("ready");
