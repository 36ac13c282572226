import type { DeviceChecker } from "@northbridge/sdk/fuzz";
import { registers } from "./edu.ts";

// QEMU's docs/specs/edu.rst, once more: a wrong number in the device would agree with itself.
const [BUFFER, LENGTH, DMA_MASK] = [0x4_0000, 4096, 0x0fff_ffff];
const [RUN, TO_RAM, DMA_IRQ] = [1, 2, 4];
const [COMPUTING, IRQFACT] = [0x01, 0x80];
const [FACT_CAUSE, DMA_CAUSE] = [0x001, 0x100];
/** How long this device takes. */
const [DMA_NS, FACT_NS] = [100e6, 1000];

interface Transfer {
  readonly source: number;
  readonly target: number;
  readonly count: number;
  readonly command: number;
  readonly dueNs: number;
}

/** What the device should do: transfers whole or not at all, factorials, and a cause of interrupts for each. */
export function checker(): DeviceChecker {
  const buffer = new Uint8Array(LENGTH);
  let transfer: Transfer | undefined;
  let computation: { readonly of: number; readonly dueNs: number } | undefined;
  let causes = 0;
  return {
    see(events, bench) {
      const { bus, region } = bench.registerRegion();
      const { bytes } = bench.memory;
      const nowNs = bench.clock.nowNs();
      const read = (name: keyof typeof registers.specs): number =>
        bus.read(region.base + registers.specs[name].offset, 4);
      const expectSame = (what: string, expected: unknown, found: unknown): void => {
        if (JSON.stringify(expected) !== JSON.stringify(found))
          throw new Error(`${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
      };

      const expected: unknown[] = [];
      if (transfer !== undefined && nowNs >= transfer.dueNs) {
        const { source, target, count, command } = transfer;
        transfer = undefined;
        const isToRam = (command & TO_RAM) !== 0;
        const own = (isToRam ? source : target) - BUFFER;
        const gpa = ((isToRam ? target : source) & DMA_MASK) >>> 0;
        const isThere = own >= 0 && own + count <= LENGTH && gpa + count <= bytes.length;
        if (isThere && isToRam) {
          expected.push({ kind: "dma", gpa, length: count });
          expectSame("RAM", [...buffer.subarray(own, own + count)], [...bytes.subarray(gpa, gpa + count)]);
        } else if (isThere) buffer.set(bytes.subarray(gpa, gpa + count), own);
        if ((command & DMA_IRQ) !== 0) causes = (causes | DMA_CAUSE) >>> 0;
        expectSame("RUN after a transfer", 0, read("DMA_CMD") & RUN);
      }
      if (computation !== undefined && nowNs >= computation.dueNs) {
        if ((read("STATUS") & IRQFACT) !== 0) causes = (causes | FACT_CAUSE) >>> 0;
        expectSame("FACT", factorial(computation.of), read("FACT"));
        computation = undefined;
      }
      expectSame(
        "DMA",
        expected,
        events.filter(({ kind }) => kind === "dma"),
      );

      for (const event of events) {
        if (event.kind !== "write" || event.region !== region.name) continue;
        const { offset, width, value } = event;
        const isOf = (name: keyof typeof registers.specs): boolean =>
          offset < registers.specs[name].offset + 4 && registers.specs[name].offset < offset + width;
        if (isOf("IRQ_RAISE") || isOf("IRQ_ACK")) {
          const isWhole = width === 4 && offset % 4 === 0;
          if (!isWhole) causes = read("IRQ_STATUS");
          else if (isOf("IRQ_RAISE")) causes = (causes | value) >>> 0;
          else causes = (causes & ~value) >>> 0;
        }
        if (isOf("DMA_CMD") && transfer === undefined && (read("DMA_CMD") & RUN) !== 0) {
          transfer = {
            source: read("DMA_SRC"),
            target: read("DMA_DST"),
            count: read("DMA_CNT"),
            command: read("DMA_CMD"),
            dueNs: nowNs + DMA_NS,
          };
        }
        if (isOf("FACT") && computation === undefined && (read("STATUS") & COMPUTING) !== 0)
          computation = { of: read("FACT"), dueNs: nowNs + FACT_NS };
      }
      expectSame("IRQ_STATUS", causes, read("IRQ_STATUS"));
      expectSame("INTA", causes !== 0, Object.values(bench.interrupts.levels()).includes(true));
    },
  };
}

/** Of 32 bits, and 0 above 34, whose factorial is a multiple of 2³². */
function factorial(n: number): number {
  if (n > 34) return 0;
  let product = 1n;
  for (let factor = 2n; factor <= BigInt(n); factor++) product *= factor;
  return Number(BigInt.asUintN(32, product));
}
