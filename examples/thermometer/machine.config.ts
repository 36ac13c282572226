import { defineMachine } from "@northbridge/sdk";
import { thermometer } from "./thermometer.ts";

export default defineMachine({
  name: "thermometer",
  memory: { mib: 256 },
  boot: {
    kernel: "../linux-serial/guest/vmlinuz",
    initrd: "../linux-serial/guest/initrd.img",
    cmdline: "console=ttyS0 cryptomgr.notests",
  },
  onReset: "stop",
  devices: [thermometer()],
});
