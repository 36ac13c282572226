import { RealModeGuest } from "./real-mode-guest.ts";

/** MOV AX, [2000h]; INC AX; MOV [2000h], AX; OUT 0E0h, AX; JMP to the first. */
const TICK = [0xa1, 0x00, 0x20, 0x40, 0xa3, 0x00, 0x20, 0xe7, 0xe0, 0xeb, 0xf5];

/** A process with one machine of two processors that counts: writes a line for every 200 counts. */
const guest = await RealModeGuest.create(TICK, { vcpus: 2, name: "ticking" });
let counts = 0;
guest.mapPorts(
  { base: 0xe0, length: 2 },
  {
    read: () => 0,
    write: () => {
      if (++counts % 200 === 0) process.stdout.write(`${counts}\n`);
    },
  },
);
await Promise.all(guest.vm.vcpus.map((vcpu) => vcpu.run()));
