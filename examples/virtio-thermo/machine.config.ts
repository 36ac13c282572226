import { defineMachine } from "@northbridge/sdk";
import { virtioThermo } from "./virtio-thermo.ts";

export default defineMachine({
  name: "virtio-thermo",
  memory: { mib: 256 },
  boot: {
    kernel: "../linux-serial/guest/vmlinuz",
    initrd: "../linux-serial/guest/initrd.img",
    cmdline: "console=ttyS0 cryptomgr.notests",
  },
  onReset: "stop",
  devices: [virtioThermo()],
});
