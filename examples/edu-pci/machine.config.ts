import { defineMachine } from "@northbridge/sdk";
import { edu } from "./edu.ts";

export default defineMachine({
  name: "edu-pci",
  memory: { mib: 256 },
  boot: {
    kernel: "../linux-serial/guest/vmlinuz",
    initrd: "../linux-serial/guest/initrd.img",
    cmdline: "console=ttyS0 cryptomgr.notests",
  },
  onReset: "stop",
  devices: [edu()],
});
