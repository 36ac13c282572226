import { VirtualClock } from "@northbridge/core";
import { addressOf, al, at, ebx, rdi } from "@northbridge/sdk/asm";
import { GuestBench, GuestProgram } from "@northbridge/sdk/conformance";
import { describe, expect, it } from "vitest";
import { softHypervisor } from "../../src/index.ts";

const BODY = 12;
/** Instructions of a round: INC, JMP, the body, its JMP, MOV, JMP. */
const ROUND = 2 + BODY + 1 + 2;

/**
 * `head: inc; jmp body`, where the jump remembers the body's block; `body` is overwritten, with what it already is, by
 * each round's last store, which drops the block that the jump still remembers.
 */
async function rounds(): Promise<{ bench: GuestBench; addresses: readonly number[] }> {
  const g = new GuestProgram();
  const { a } = g;
  let count = 0;
  const note = (write: () => void): void => {
    a.label(`i${count++}`);
    write();
  };
  a.label("start");
  a.mov(rdi, addressOf("body"));
  a.mov(al, 0x90);
  a.label("head");
  note(() => {
    a.inc(ebx);
  });
  note(() => {
    a.jmp("body");
  });
  a.bytes(...new Array<number>(32).fill(0xcc));
  a.label("body");
  for (let i = 0; i < BODY; i++)
    note(() => {
      a.op("nop");
    });
  note(() => {
    a.jmp("tail");
  });
  a.bytes(...new Array<number>(32).fill(0xcc));
  a.label("tail");
  note(() => {
    a.mov(at(rdi, 5, 8), al);
  });
  note(() => {
    a.jmp("head");
  });
  const bench = await GuestBench.create({
    createHypervisor: softHypervisor,
    createClock: () => new VirtualClock(),
  });
  bench.load(g);
  bench.enterLongMode(0, a.addressOf("start"));
  return { bench, addresses: Array.from({ length: count }, (_, i) => a.addressOf(`i${i}`)) };
}

describe("a slice that ends inside a dropped block", () => {
  // Every remainder of a round: some slices reach the remembered body with fewer instructions left than it has.
  it.each(Array.from({ length: ROUND + 3 }, (_, i) => i + 1))(
    "counts what it executed: %i at a time",
    async (size) => {
      const { bench, addresses } = await rounds();
      const vcpu = bench.vcpu();
      expect(addresses).toHaveLength(ROUND);
      await vcpu.run({ instructions: 2 });
      for (let done = 0; done < 12 * ROUND; ) {
        expect(await vcpu.run({ instructions: size })).toEqual({ kind: "budget" });
        done += size;
        const { rip, rbx } = vcpu.getState().regs;
        expect(bench.vm.stats()["instructions"], `after ${done}`).toBe(2 + done);
        expect(rip, `after ${done}`).toBe(BigInt(addresses[done % ROUND]!));
        expect(rbx, `after ${done}`).toBe(BigInt(Math.ceil(done / ROUND)));
      }
      await bench.close();
    },
  );
});
