import { existsSync } from "node:fs";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { QmpClient } from "./qmp-client.ts";
import { QtestMachine } from "./qtest-machine.ts";

const isHere = QtestMachine.isInstalled();

describe.skipIf(!isHere)("a QEMU without a guest (needs qemu-system-x86_64)", () => {
  it("has memory, ports and a configuration space, by the width of the access", async () => {
    await using qemu = await QtestMachine.pc([], "stands");
    await qemu.setBytes(0x1000, Uint8Array.of(1, 2, 3, 4, 5));
    expect(await qemu.bytes(0x1000, 5)).toEqual(Buffer.from([1, 2, 3, 4, 5]));
    expect(await Promise.all(([1, 2, 4] as const).map((width) => qemu.read(0x1000, width)))).toEqual([
      0x01, 0x0201, 0x0403_0201,
    ]);
    await qemu.write(0x1001, 2, 0xbeef);
    expect(await qemu.read(0x1000, 4)).toBe(0x04be_ef01);
    // The host bridge of an i440FX, Intel 82441FX §3.2.
    expect(await qemu.configRead(0, 0, 4)).toBe(0x1237_8086);
    expect(await qemu.configRead(0, 2, 2)).toBe(0x1237);
    // CMOS RAM behind its index port (MC146818).
    await qemu.portOut(0x70, 1, 0x50);
    await qemu.portOut(0x71, 1, 0xa5);
    expect(await qemu.portIn(0x71, 1)).toBe(0xa5);
    await expect(qemu.setInput("/machine/nothing", 0, true)).rejects.toThrow(/qtest: set_irq_in.*: FAIL/);
    expect(await qemu.objectOf("i8042")).toMatch(/^\/machine\/unattached\/device\[\d+\]$/);
    await expect(qemu.objectOf("no-such-type")).rejects.toThrow(
      "qmp: expected an object of type no-such-type, found none",
    );
  });

  it("says that it did not start, and leaves nothing behind", async () => {
    let directory = "";
    await expect(
      QtestMachine.start("qemu-system-x86_64", (made) => {
        directory = made;
        return Promise.resolve(["-M", "no-such-machine"]);
      }),
    ).rejects.toThrow(/^qemu-system-x86_64 ended with 1: .*unsupported machine type/);
    expect(existsSync(directory)).toBe(false);
  });
});

/** What a test has in QEMU's place: reads no command of its monitor, and ends with the first of its qtest socket. */
const MORTAL = `
const path = process.argv[process.argv.indexOf("-qtest") + 1].slice("unix:".length);
require("node:fs").closeSync(0);
require("node:net").connect(path).once("data", () => { console.error("out of luck"); process.exit(3); });
`;

describe("a QEMU that ends", () => {
  it("is told of by whatever it is asked from then on", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "northbridge-mortal-"));
    const program = join(directory.path, "mortal.cjs");
    await writeFile(program, `#!${process.execPath}\n${MORTAL}`, { mode: 0o755 });
    await using qemu = await QtestMachine.start(program, () => Promise.resolve([]));
    const ended = `${program} ended with 3: out of luck`;
    const asked = expect(qemu.objectOf("edu")).rejects.toThrow(ended);
    await new Promise(setImmediate); // the pipe is broken: that alone says nothing
    await expect(qemu.read(0, 4)).rejects.toThrow(ended);
    await asked;
    await expect(qemu.objectOf("edu")).rejects.toThrow(ended);
    await expect(qemu.portOut(0x70, 1, 0)).rejects.toThrow(ended);
  });

  it("leaves no command at its monitor without an answer", async () => {
    const [commands, answers] = [new PassThrough(), new PassThrough()];
    const qmp = new QmpClient(commands, answers);
    answers.write('{"QMP": {}}\n{"return": {}}\n');
    const waiting = qmp.execute("query-status");
    commands.destroy(new Error("write EPIPE"));
    answers.end('{"return": ');
    await expect(waiting).rejects.toThrow("qmp: query-status: QEMU has ended");
    await expect(qmp.execute("quit")).rejects.toThrow("qmp: quit: QEMU has ended");
  });
});
