import { Writable } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteStore } from "../tcp/byte-store.ts";
import { HostWriter } from "./host-writer.ts";

/** A host that takes a chunk only when told to. */
class SlowHost extends Writable {
  readonly heard: number[] = [];
  #goOn: (() => void) | undefined;

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, onTaken: () => void): void {
    this.heard.push(...chunk);
    this.#goOn = onTaken;
  }

  async read(): Promise<void> {
    const goOn = this.#goOn;
    this.#goOn = undefined;
    goOn?.();
    await new Promise(setImmediate);
  }
}

describe("what a guest sends to a host that does not read", () => {
  it("takes the memory of its bytes, however small the segments", () => {
    const store = new ByteStore();
    const writer = new HostWriter(new SlowHost(), store, () => undefined);
    for (let count = 0; count < 10_000; count += 1) writer.write(Uint8Array.of(1));
    expect(store.lentBytes).toBeLessThan(20_000);
  });

  it("comes whole and in order, ends where it ended, and leaves nothing borrowed", async () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 9000 }) },
      { weight: 1, arbitrary: fc.constant(1) },
      { weight: 2, arbitrary: fc.constant("read" as const) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const store = new ByteStore();
        const host = new SlowHost();
        const sent: number[] = [];
        let written = 0;
        const writer = new HostWriter(host, store, (length) => {
          written += length;
        });
        for (const one of steps) {
          if (one === "read") await host.read();
          else {
            const bytes = Uint8Array.from({ length: one }, (_, index) => (sent.length + index) & 255);
            sent.push(...bytes);
            writer.write(bytes);
          }
        }
        writer.end();
        while (writer.isDraining) await host.read();
        expect(host.heard).toEqual(sent);
        expect([written, store.lentBytes]).toEqual([sent.length, 0]);
      }),
      { numRuns: 50 },
    );
  });

  it("is given back where the stream goes", async () => {
    const store = new ByteStore();
    const host = new SlowHost();
    let written = 0;
    const writer = new HostWriter(host, store, (length) => {
      written += length;
    });
    for (let count = 0; count < 3; count += 1) writer.write(new Uint8Array(5000));
    host.destroy();
    writer.end();
    await host.read();
    expect([written, store.lentBytes, writer.isDraining]).toEqual([15_000, 0, false]);
  });
});
