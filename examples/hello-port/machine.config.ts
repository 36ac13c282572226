import { debugConsole, debugExit } from "@northbridge/devices-legacy";
import { defineMachine } from "@northbridge/sdk";
import { ORIGIN } from "./guest.ts";

export default defineMachine({
  name: "hello-port",
  machine: "bare-1",
  memory: { mib: 2 },
  clock: "virtual",
  boot: { flat: { image: "generated/guest.bin", gpa: ORIGIN, mode: "long" } },
  devices: [debugConsole(), debugExit()],
});
