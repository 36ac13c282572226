import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VirtioInput } from "@northbridge/devices-virtio";
import { SplitDriverQueue } from "@northbridge/sdk/testing";
import { expect, it } from "vitest";
import { VhostUserBackend } from "../src/index.ts";
import { createMemory } from "./devices.ts";
import { SLOT, VirtioPciMachine } from "./virtio-pci-machine.ts";

// virtio 1.3 §4.1.4, §4.1.4.3.
const [COMMON, NOTIFY, , DEVICE] = [1, 2, 3, 4];
const QUEUE_SIZE = 16;
const EVENT_BYTES = 8;

function missing(): string | undefined {
  if (spawnSync("qemu-system-x86_64", ["--version"]).status !== 0) return "no qemu-system-x86_64";
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return "no /dev/kvm: QEMU's vhost-user-input wants it";
  }
}

/** QEMU 7.2 refuses `vhost-user-input` under TCG ("requires kvm"): its driver is this test. */
it("vhost-user-input: a keyboard of ours in a stock QEMU", async (context) => {
  const reason = missing();
  if (reason !== undefined) return context.skip(reason);
  const directory = mkdtempSync(join(tmpdir(), "northbridge-vhost-user-"));
  const socket = join(directory, "input.sock");
  const device = new VirtioInput({ kind: "keyboard", serial: "NB-1" });
  const backend = new VhostUserBackend({ device, createMemory });
  backend.listen(socket);
  const machine = await VirtioPciMachine.start(directory, [
    ...["-chardev", `socket,id=device,path=${socket}`],
    ...["-device", `vhost-user-input-pci,chardev=device,addr=${SLOT}`],
  ]);
  const { qemu, memory } = machine;
  try {
    expect(await qemu.configRead(SLOT, 0, 4)).toBe(0x1052_1af4);
    const structures = await machine.enable();
    const [common, notify, config] = [COMMON, NOTIFY, DEVICE].map((type) => structures.get(type)!);

    // What the keyboard is called, and which of the alphabet's first keys it has: by select and subsel.
    const query = async (select: number, subsel: number): Promise<number[]> => {
      await qemu.write(config!.address, 1, select);
      await qemu.write(config!.address + 1, 1, subsel);
      const size = await qemu.read(config!.address + 2, 1);
      const bytes: number[] = [];
      for (let i = 0; i < size; i++) bytes.push(await qemu.read(config!.address + 8 + i, 1));
      return bytes;
    };
    expect(String.fromCharCode(...(await query(1, 0)))).toBe("Northbridge virtio keyboard");
    expect(String.fromCharCode(...(await query(2, 0)))).toBe("NB-1");
    expect((await query(0x11, 1))[3]! & 0x40).toBe(0x40); // KEY_A is 30
    expect(await query(0x11, 3)).toEqual([]); // no axes

    const queues = [0x10_0000, 0x11_0000].map(
      (gpa) => new SplitDriverQueue({ memory, gpa, size: QUEUE_SIZE }),
    );
    for (const status of [0, 1, 3]) await qemu.write(common!.address + 0x14, 1, status);
    await qemu.write(common!.address + 0x08, 4, 1);
    await qemu.write(common!.address + 0x0c, 4, 1); // VERSION_1
    await qemu.write(common!.address + 0x14, 1, 0x0b);
    for (const [index, { addresses }] of queues.entries()) {
      await qemu.write(common!.address + 0x16, 2, index);
      await qemu.write(common!.address + 0x18, 2, QUEUE_SIZE);
      for (const [area, gpa] of [addresses.desc, addresses.driver, addresses.device].entries()) {
        await qemu.write(common!.address + 0x20 + 8 * area, 4, gpa);
        await qemu.write(common!.address + 0x24 + 8 * area, 4, 0);
      }
      await qemu.write(common!.address + 0x1c, 2, 1);
    }
    await qemu.write(common!.address + 0x14, 1, 0x0f);
    const kick = (queue: number): Promise<void> =>
      qemu.write(notify!.address + queue * notify!.multiplier, 2, queue);
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
    };

    const [events, statuses] = queues;
    // The driver lights CAPS LOCK. Once that is seen both queues are open: events of before would be lost.
    memory.write(0x30_0000, Uint8Array.of(0x11, 0, 1, 0, 1, 0, 0, 0));
    statuses!.add([{ gpa: 0x30_0000, length: EVENT_BYTES }], []);
    await kick(1);
    await until(() => statuses!.collect().length === 1);
    expect(await device.monitorCommand(["leds"])).toBe("capsLock");

    const buffers = new Map<number, number>();
    for (let i = 0; i < QUEUE_SIZE; i++) {
      const gpa = 0x20_0000 + EVENT_BYTES * i;
      buffers.set(events!.add([], [{ gpa, length: EVENT_BYTES }])!, gpa);
    }
    await kick(0);
    const got: number[][] = [];
    await device.monitorCommand(["tap", "a"]);
    await until(() => {
      for (const { id } of events!.collect()) {
        const at = buffers.get(id)!;
        got.push([memory.readU16(at), memory.readU16(at + 2), memory.readU32(at + 4)]);
      }
      return got.length >= 4;
    });
    expect(got).toEqual([
      [1, 30, 1],
      [0, 0, 0],
      [1, 30, 0],
      [0, 0, 0],
    ]);
  } finally {
    await machine.close();
    await backend.close();
    rmSync(directory, { recursive: true });
  }
}, 60_000);
