import type { VirtualMachine } from "@northbridge/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { MMIO, RealModeGuest } from "./real-mode-guest.ts";
import { hasKvm } from "./usable-kvm.ts";

/** INC AX; OUT 0E0h, AX (posted); MOV ES:[0], AX (posted); TEST AX, 7; JNZ to the first; OUT 0E4h, AX; JMP to it. */
const LOOP = [
  ...[0x40, 0xe7, 0xe0, 0x26, 0xa3, 0x00, 0x00],
  ...[0xa9, 0x07, 0x00, 0x75, 0xf4, 0xe7, 0xe4, 0xeb, 0xf0],
];
/** OUT 0E0h, AX; JMP to itself. */
const ONCE = [0xe7, 0xe0, 0xeb, 0xfe];

const open = new Set<VirtualMachine>();
afterEach(async () => {
  for (const vm of open) await vm.close();
  open.clear();
});

async function create(code: readonly number[]): Promise<RealModeGuest> {
  const guest = await RealModeGuest.create(code);
  open.add(guest.vm);
  return guest;
}

const posted = [{ offset: 0, length: 2 }];

describe.skipIf(!hasKvm)("posted writes under KVM", () => {
  it("come in their order, before any other access, without exits of their own", async () => {
    const seen: string[] = [];
    const guest = await create(LOOP);
    guest.mapPorts(
      { base: 0xe0, length: 2 },
      { posted, read: () => 0, write: (_offset, width, value) => void seen.push(`port${width} ${value}`) },
    );
    guest.mapMmio({
      posted,
      read: () => 0,
      write: (_offset, width, value) => void seen.push(`mmio${width} ${value}`),
    });
    guest.mapPorts(
      { base: 0xe4, length: 2 },
      {
        read: () => 0,
        write: (_offset, _width, value) => {
          seen.push(`sync ${value}`);
          if (value === 4000) guest.vcpu.kick();
        },
      },
    );
    expect(await guest.vcpu.run()).toEqual({ kind: "interrupted" });
    const expected = Array.from({ length: 4000 }, (_, i) => [
      `port2 ${i + 1}`,
      `mmio2 ${i + 1}`,
      ...((i + 1) % 8 === 0 ? [`sync ${i + 1}`] : []),
    ]).flat();
    expect(seen.slice(0, expected.length)).toEqual(expected);
    const stats = guest.vm.stats();
    expect(stats["portWrites"]).toBeLessThanOrEqual(501);
    expect(stats["mmioWrites"]).toBe(0);
    expect(stats["posted"]).toBeGreaterThanOrEqual(8000);
  });

  it("come while the guest does nothing else", async () => {
    const guest = await create(ONCE);
    const written = Promise.withResolvers<number>();
    guest.mapPorts(
      { base: 0xe0, length: 2 },
      {
        posted,
        read: () => 0,
        write: (_offset, _width, value) => {
          written.resolve(value);
        },
      },
    );
    const run = guest.vcpu.run();
    expect(await written.promise).toBe(0);
    guest.vcpu.kick();
    await run;
    expect(guest.vm.stats()).toMatchObject({ portWrites: 0, posted: 1 });
  });

  it("are accesses like any when they are unmapped", async () => {
    const guest = await create([0x26, 0xa3, 0x00, 0x00, 0xeb, 0xfa]); // MOV ES:[0], AX; JMP to it
    guest.mapMmio({ posted, read: () => 0, write: () => undefined })();
    let seen = 0;
    guest.mmio.map(
      { name: "plain", base: MMIO, length: 4 },
      {
        read: () => 0,
        write: () => {
          if (++seen === 20) guest.vcpu.kick();
        },
      },
    );
    await guest.vcpu.run();
    expect(guest.vm.stats()).toMatchObject({ mmioWrites: 20, posted: 0 });
  });

  it("end the run that is pending where the device throws", async () => {
    const guest = await create(ONCE);
    guest.mapPorts(
      { base: 0xe0, length: 2 },
      {
        posted,
        read: () => 0,
        write: () => {
          throw new Error("a device's bug");
        },
      },
    );
    await expect(guest.vcpu.run()).rejects.toThrow("a device's bug");
  });

  it("come once and in their order where one has its register unmapped", async () => {
    // MOV ES:[0], AX; INC AX; CMP AX, 5; JNE to the first; OUT 0E4h, AL; JMP to itself
    const guest = await create([
      0x26, 0xa3, 0x00, 0x00, 0x40, 0x3d, 0x05, 0x00, 0x75, 0xf6, 0xe6, 0xe4, 0xeb, 0xfe,
    ]);
    const seen: number[] = [];
    const device = { posted, read: () => 0 };
    const unmap = guest.mapMmio({
      ...device,
      write: (_offset, _width, value) => {
        seen.push(value);
        if (value === 1) unmapOther();
      },
    });
    const unmapOther = guest.mapPorts({ base: 0xe0, length: 2 }, { ...device, write: () => undefined });
    guest.mapPorts({ base: 0xe4, length: 1 }, { read: () => 0, write: () => guest.vcpu.kick() });
    await guest.vcpu.run();
    unmap();
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    expect(guest.vm.stats()).toMatchObject({ posted: 5 });
  });
});
