import { RealModeGuest } from "./real-mode-guest.ts";

const [guestDoes, processDoes] = process.argv.slice(2);
/** JMP to itself, or STI; HLT; JMP to HLT. */
const guest = await RealModeGuest.create(guestDoes === "spin" ? [0xeb, 0xfe] : [0xfb, 0xf4, 0xeb, 0xfd]);
void guest.vcpu.run();
await new Promise((resolve) => setTimeout(resolve, 20));
if (processDoes === "throw") throw new Error("nobody catches this");
process.exit(3);
