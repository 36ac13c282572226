import { al, Assembler, dx, ecx, edx, mem, rsi } from "@northbridge/sdk/asm";

/** Where the image is loaded and entered. */
export const ORIGIN = 0x10_0000;
const DEBUG_CONSOLE = 0xe9;
const DEBUG_EXIT = 0xf4;
const TEXT = "Hello from Northbridge\n";

/** The guest: 64-bit code that prints its text through a port and asks the machine to power off. */
export function assembleGuest(): Uint8Array {
  const a = new Assembler({ origin: ORIGIN });
  a.lea(rsi, mem({ label: "text" }));
  a.mov(ecx, TEXT.length);
  a.mov(edx, DEBUG_CONSOLE);
  a.rep();
  a.string("outs", 8);
  a.mov(edx, DEBUG_EXIT);
  a.mov(al, 0);
  a.out(dx, al);
  a.label("stop");
  a.op("hlt");
  a.jmp("stop");
  a.label("text");
  a.ascii(TEXT);
  return a.finish();
}
