import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeBzImage, fakeElf, fakeGuest } from "../../test/fake-kernel.ts";
import type { FakeGuest } from "../../test/fake-kernel.ts";
import type { BootConfig, FirmwareEntry, GuestMemory, KvmRegs, KvmSregs } from "../contracts/index.ts";
import { NorthbridgeError } from "../contracts/index.ts";
import { loadBoot } from "./load-boot.ts";

const TEXT = Uint8Array.from({ length: 5000 }, (_, index) => index & 0xff);
const elf = fakeElf({
  entry: 0x100_0000,
  segments: [
    { gpa: 0x100_0000, virtual: 0xffff_ffff_8100_0000n, bytes: TEXT, length: 0x8000 },
    { gpa: 0x101_0000, bytes: Uint8Array.of(1, 2, 3), length: 3 },
  ],
  pvhEntry: 0x100_0850,
});
const bzImage = fakeBzImage(elf);
const INITRD = Uint8Array.from({ length: 70_001 }, (_, index) => (index * 7) & 0xff);

const FIRMWARE: readonly FirmwareEntry[] = [
  { kind: "ioapic", id: 0, gpa: 0xfec0_0000, gsiBase: 0 },
  {
    kind: "pciRoot",
    ecamGpa: 0xe000_0000,
    busCount: 2,
    mmio32: { gpa: 0xc000_0000, length: 0x1000_0000 },
    io: { base: 0xc000, length: 0x1000 },
    intxGsiBase: 16,
    intxGsiCount: 4,
  },
];

interface Started {
  readonly guest: FakeGuest;
  readonly regs: KvmRegs;
  readonly sregs: KvmSregs;
}

async function start(
  boot: BootConfig,
  files: Readonly<Record<string, Uint8Array>>,
  { guest = fakeGuest(32), firmware = [] as readonly FirmwareEntry[] } = {},
): Promise<Started> {
  const readFile = (path: string): Promise<Uint8Array> => Promise.resolve(files[path] ?? new Uint8Array());
  const state = await loadBoot({ boot, ...guest, readFile, firmware, vcpus: 1 });
  return { guest, regs: state.regs!, sregs: state.sregs! };
}

const bytesAt = (memory: GuestMemory, gpa: number, length: number): number[] => [
  ...memory.view(gpa, length)!,
];
const u32 = (memory: GuestMemory, gpa: number): number => memory.readU32(gpa);
const u64 = (memory: GuestMemory, gpa: number): number =>
  memory.readU32(gpa) + memory.readU32(gpa + 4) * 2 ** 32;

function textAt(memory: GuestMemory, gpa: number): string {
  const bytes = memory.view(gpa, 4096)!;
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

/** Walks 4-level page tables as the processor does (Intel SDM 3A §4.5); undefined where nothing is mapped. */
function translate(memory: GuestMemory, cr3: number, linear: number): number | undefined {
  let table = cr3;
  for (const shift of [39, 30, 21]) {
    const index = Math.floor(linear / 2 ** shift) % 512;
    const low = memory.readU32(table + index * 8);
    if ((low & 1) === 0) return undefined;
    const base = (low & ~0xfff) >>> 0;
    if (shift === 21) return (low & 0x80) !== 0 ? base + (linear % 2 ** 21) : undefined;
    table = base;
  }
  return undefined;
}

describe("loadBoot: 64-bit Linux", () => {
  it.each([
    ["an ELF", elf],
    ["a bzImage", bzImage],
  ])("enters %s at its link address in 64-bit mode", async (_what, kernel) => {
    const { guest, regs, sregs } = await start({ kernel: "k" }, { k: kernel });
    expect(regs.rip).toBe(0x100_0000n);
    expect(regs.rflags).toBe(2n);
    expect(sregs.cr0 & 0x8000_0001n).toBe(0x8000_0001n);
    expect(sregs.cr4).toBe(0x20n);
    expect(sregs.efer).toBe(0x500n);
    expect(sregs.cs).toMatchObject({ selector: 0x10, l: true, db: false, type: 0xb, base: 0n });
    expect(sregs.ds).toMatchObject({ selector: 0x18, db: true, type: 3, limit: 0xffff_ffff });
    expect(bytesAt(guest.memory, 0x100_0000, 5000)).toEqual([...TEXT]);
    expect(bytesAt(guest.memory, 0x101_0000, 3)).toEqual([1, 2, 3]);
  });

  it("clears the bss of a kernel that starts again in used memory", async () => {
    const guest = fakeGuest(32);
    guest.memory.view(0x100_0000, 0x2_0000)!.fill(0xee);
    await start({ kernel: "k" }, { k: elf }, { guest });
    expect(bytesAt(guest.memory, 0x100_0000 + 5000, 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(guest.memory.readU8(0x100_8000 - 1)).toBe(0);
    expect(guest.memory.readU8(0x100_8000)).toBe(0xee);
  });

  it("maps the first 4 GiB onto themselves, and no more", async () => {
    const { guest, sregs } = await start({ kernel: "k" }, { k: elf });
    const cr3 = Number(sregs.cr3);
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(2 ** 32 - 1), fc.constantFrom(0, 0x1f_ffff, 0x20_0000, 2 ** 32 - 1)),
        (linear) => {
          expect(translate(guest.memory, cr3, linear)).toBe(linear);
        },
      ),
    );
    expect(translate(guest.memory, cr3, 2 ** 32)).toBeUndefined();
  });

  it("keeps the descriptors that its segment registers hold", async () => {
    const { guest, sregs } = await start({ kernel: "k" }, { k: elf });
    const gdt = Number(sregs.gdt.base);
    expect(sregs.gdt.limit).toBe(0x1f);
    expect([u32(guest.memory, gdt + 0x10), u32(guest.memory, gdt + 0x14)]).toEqual([0xffff, 0x00af_9b00]);
    expect([u32(guest.memory, gdt + 0x18), u32(guest.memory, gdt + 0x1c)]).toEqual([0xffff, 0x00cf_9300]);
  });

  it("hands over header, command line, initrd and memory map in boot_params", async () => {
    const { guest, regs } = await start(
      { kernel: "k", initrd: "i", cmdline: "root=/dev/vda" },
      { k: bzImage, i: INITRD },
      { firmware: FIRMWARE },
    );
    const zeroPage = Number(regs.rsi);
    const { memory } = guest;
    expect(bytesAt(memory, zeroPage + 0x202, 6)).toEqual([0x48, 0x64, 0x72, 0x53, 0x0f, 0x02]);
    expect(memory.readU8(zeroPage + 0x1ef)).toBe(0);
    expect(memory.readU8(zeroPage + 0x210)).toBe(0xff);
    expect(memory.readU8(zeroPage + 0x211)).toBe(1);
    expect(textAt(memory, u32(memory, zeroPage + 0x228))).toBe("root=/dev/vda");

    const initrd = u32(memory, zeroPage + 0x218);
    expect(u32(memory, zeroPage + 0x21c)).toBe(INITRD.length);
    // As high as 32 MiB allow, on a page.
    expect(initrd).toBe(Math.floor((32 * 2 ** 20 - INITRD.length) / 4096) * 4096);
    expect(bytesAt(memory, initrd, INITRD.length)).toEqual([...INITRD]);

    const rsdp = u64(memory, zeroPage + 0x70);
    expect(new TextDecoder().decode(memory.view(rsdp, 8))).toBe("RSD PTR ");

    const map = Array.from({ length: memory.readU8(zeroPage + 0x1e8) }, (_, index) => {
      const entry = zeroPage + 0x2d0 + index * 20;
      return [u64(memory, entry), u64(memory, entry + 8), u32(memory, entry + 16)];
    });
    expect(map).toEqual([
      [0, 0x9_fc00, 1],
      [0x9_fc00, 0x400, 2],
      [0xc_0000, 0x4_0000, 2],
      [0x10_0000, 31 * 2 ** 20, 1],
      [0xe000_0000, 2 * 2 ** 20, 2],
    ]);
  });

  it("gives a plain ELF a header of its own, and the default command line", async () => {
    const { guest, regs } = await start({ kernel: "k" }, { k: elf });
    const zeroPage = Number(regs.rsi);
    expect(u32(guest.memory, zeroPage + 0x202)).toBe(0x5372_6448);
    expect(textAt(guest.memory, u32(guest.memory, zeroPage + 0x228))).toBe("console=ttyS0");
    expect(u64(guest.memory, zeroPage + 0x70)).toBe(0);
  });

  it("enters a bzImage packed where the config says so", async () => {
    const { guest, regs } = await start({ kernel: "k", protocol: "bzimage" }, { k: bzImage });
    expect(regs.rip).toBe(0x100_0200n);
    expect(bytesAt(guest.memory, 0x100_0300, 2)).toEqual([0x1f, 0x8b]);
  });
});

describe("loadBoot: PVH", () => {
  it("enters 32-bit protected mode with hvm_start_info in EBX", async () => {
    const { guest, regs, sregs } = await start(
      { kernel: "k", initrd: "i", cmdline: "quiet", protocol: "pvh" },
      { k: bzImage, i: INITRD },
      { firmware: FIRMWARE },
    );
    const { memory } = guest;
    expect(regs.rip).toBe(0x100_0850n);
    expect(sregs.cr0).toBe(0x11n);
    expect(sregs.efer).toBe(0n);
    expect(sregs.cs).toMatchObject({ db: true, l: false, base: 0n, limit: 0xffff_ffff });
    expect(sregs.tr).toMatchObject({ type: 0xb, limit: 0x67, s: false, present: true });
    const info = Number(regs.rbx);
    expect([u32(memory, info), u32(memory, info + 4), u32(memory, info + 12)]).toEqual([0x336e_c578, 1, 1]);
    const module = u64(memory, info + 16);
    expect(bytesAt(memory, u64(memory, module), 16)).toEqual([...INITRD.subarray(0, 16)]);
    expect(u64(memory, module + 8)).toBe(INITRD.length);
    expect(textAt(memory, u64(memory, info + 24))).toBe("quiet");
    expect(u64(memory, info + 32)).toBe(0xe_0000);
    const map = u64(memory, info + 40);
    expect(u32(memory, info + 48)).toBe(5);
    expect([u64(memory, map), u64(memory, map + 8), u32(memory, map + 16)]).toEqual([0, 0x9_fc00, 1]);
  });

  it("says when the kernel has no such entry", async () => {
    const kernel = fakeElf({ entry: 0x100_0000, segments: [{ gpa: 0x100_0000, bytes: TEXT }] });
    await expect(start({ kernel: "k", protocol: "pvh" }, { k: kernel })).rejects.toThrow(
      "k: expected an ELF note with a PVH entry (XEN_ELFNOTE_PHYS32_ENTRY), found none",
    );
  });
});

describe("loadBoot: bare metal", () => {
  const flat = (mode: "real" | "protected" | "long", gpa: number): BootConfig => ({
    flat: { image: "image", gpa, mode },
  });
  const image = Uint8Array.of(0xf4, 0x90, 0x90);

  it("enters real mode with a segment that holds the entry", async () => {
    const { regs, sregs } = await start(flat("real", 0x2_7c00), { image });
    expect(sregs.cs).toMatchObject({ selector: 0x2000, base: 0x2_0000n, limit: 0xffff });
    expect(regs.rip).toBe(0x7c00n);
    expect(sregs.cr0 & 1n).toBe(0n);
    expect(sregs.idt).toEqual({ base: 0n, limit: 0x3ff });
  });

  it.each(["pc", "flat"] as const)("enters protected and long mode on the %s layout", async (layout) => {
    const guest = fakeGuest(1, layout);
    const protectedMode = await start(flat("protected", 0x1000), { image }, { guest });
    expect(protectedMode.regs.rip).toBe(0x1000n);
    expect(protectedMode.sregs.cr0).toBe(0x11n);
    const long = await start(flat("long", 0x1000), { image }, { guest });
    expect(long.sregs.cs.l).toBe(true);
    expect(translate(guest.memory, Number(long.sregs.cr3), 0x1234_5678)).toBe(0x1234_5678);
    expect(bytesAt(guest.memory, 0x1000, 3)).toEqual([...image]);
  });

  it("refuses an image on top of the tables that enter it", async () => {
    await expect(start(flat("long", 0x9_8000), { image })).rejects.toThrow(
      /^boot\.flat\.gpa: expected .* found 0x98000/,
    );
  });

  it("refuses an image outside RAM, and an entry outside the image", async () => {
    await expect(start(flat("long", 0x4000_0000), { image })).rejects.toThrow(
      "image: expected guest RAM for 3 bytes at boot.flat.gpa 0x40000000, found less",
    );
    const boot: BootConfig = { flat: { image: "image", gpa: 0x1000, entry: 0x1003, mode: "long" } };
    await expect(start(boot, { image })).rejects.toThrow(
      "boot.flat.entry: expected an address inside the image, found 0x1003",
    );
  });
});

describe("loadBoot: what is no kernel", () => {
  const refused = async (
    boot: BootConfig,
    files: Readonly<Record<string, Uint8Array>>,
    mib = 32,
  ): Promise<string> => {
    const error: unknown = await start(boot, files, { guest: fakeGuest(mib) }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(NorthbridgeError);
    expect((error as NorthbridgeError).code).toBe("NB_BOOT_IMAGE");
    const { message } = error as NorthbridgeError;
    expect(message).not.toContain("\n");
    return message;
  };
  const text = (content: string): Uint8Array => new TextEncoder().encode(content);

  it.each([
    ["an empty file", new Uint8Array(), "an empty file"],
    ["a script", text("#!/bin/sh\n"), "a script"],
    ["text", text("hello world"), "11 bytes that begin with 68 65 6c 6c 6f 20 77 6f"],
    ["a Debian package", text("!<arch>\ndebian-binary"), "a Debian package"],
  ])("names %s", async (_what, bytes, found) => {
    expect(await refused({ kernel: "k" }, { k: bytes })).toBe(
      `k: expected a bzImage or an ELF vmlinux, found ${found}`,
    );
  });

  it("says how much of a truncated bzImage is missing", async () => {
    expect(await refused({ kernel: "k" }, { k: bzImage.subarray(0, 1500) })).toBe(
      `k: expected a bzImage of ${bzImage.length} bytes, found a file cut off at 1500 bytes`,
    );
    expect(await refused({ kernel: "k" }, { k: bzImage.subarray(0, 0x210) })).toBe(
      "k: expected a whole bzImage, found a file cut off at 528 bytes, inside its header",
    );
  });

  it("says how much of a truncated ELF is missing", async () => {
    expect(await refused({ kernel: "k" }, { k: elf.subarray(0, 3000) })).toMatch(
      /^k: expected an ELF executable of at least \d+ bytes, found a file cut off at 3000 bytes$/,
    );
  });

  it("refuses an ELF of another machine", async () => {
    const arm = Uint8Array.from(elf);
    arm[18] = 183;
    expect(await refused({ kernel: "k" }, { k: arm })).toBe(
      "k: expected an x86-64 ELF executable, found a 64-bit ELF for machine 183",
    );
  });

  it("says when kernel or initrd do not fit into RAM", async () => {
    expect(await refused({ kernel: "k" }, { k: elf }, 8)).toMatch(
      /^k: expected room in guest RAM .* raise memory\.mib$/,
    );
    expect(await refused({ kernel: "k", protocol: "bzimage" }, { k: bzImage }, 8)).toBe(
      "k: expected RAM from 0x1000000 to 0x1300000 for the kernel, found less: raise memory.mib",
    );
    const initrd = new Uint8Array(14 * 2 ** 20);
    expect(await refused({ kernel: "k", initrd: "i" }, { k: bzImage, i: initrd })).toBe(
      "i: expected an initrd of at most 13631488 bytes, the RAM that the kernel leaves, found 14680064 bytes: raise memory.mib",
    );
  });

  it("refuses an ELF where the hand-over structures go", async () => {
    const low = fakeElf({ entry: 0x8000, segments: [{ gpa: 0x8000, bytes: TEXT }] });
    expect(await refused({ kernel: "k" }, { k: low })).toBe(
      "k: expected a kernel that leaves 0x1000–0x21000 to the boot structures, found one with 5000 bytes at 0x8000",
    );
  });

  it("refuses an old protocol", async () => {
    const old = fakeBzImage(elf, { protocol: 0x0206 });
    expect(await refused({ kernel: "k" }, { k: old })).toBe(
      "k: expected boot protocol 2.12 or later, found 2.6",
    );
  });

  it("never fails but by NB_BOOT_IMAGE on damaged headers", async () => {
    const guest = fakeGuest(32);
    const kernels = [elf, bzImage];
    const damage = fc.array(
      fc.record({
        // Headers: ELF up to its program headers, bzImage around 0x1F1.
        at: fc.oneof(fc.nat(0xe8), fc.integer({ min: 0x1f1, max: 0x268 })),
        byte: fc.constantFrom(0, 1, 2, 0x10, 0x7f, 0x80, 0xff),
      }),
      { minLength: 1, maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(1), damage, async (which, changes) => {
        const kernel = Uint8Array.from(kernels[which]!);
        for (const { at, byte } of changes) kernel[at] = byte;
        await start({ kernel: "k", initrd: "i" }, { k: kernel, i: INITRD }, { guest }).catch(
          (error: unknown) => {
            // A header may also allow no command line at all.
            expect(["NB_BOOT_IMAGE", "NB_CONFIG"]).toContain((error as NorthbridgeError).code);
          },
        );
      }),
      { numRuns: 400 },
    );
  });
});

describe("loadBoot: configuration", () => {
  it("leaves the vCPU at its reset vector where there is nothing to load", async () => {
    const guest = fakeGuest(1);
    const request = {
      boot: {},
      ...guest,
      firmware: [],
      vcpus: 1,
      readFile: () => Promise.reject(new Error()),
    };
    expect(await loadBoot(request)).toEqual({});
  });

  it("refuses contradictions", async () => {
    const flat = { image: "f", gpa: 0, mode: "long" } as const;
    await expect(start({ kernel: "k", flat }, {})).rejects.toThrow(
      "boot: expected either kernel or flat, found both",
    );
    await expect(start({ initrd: "i" }, {})).rejects.toThrow(
      "boot.initrd: expected a boot.kernel with it, found none",
    );
    await expect(start({ kernel: "k", cmdline: "x".repeat(2048) }, { k: bzImage })).rejects.toThrow(
      "boot.cmdline: expected at most 2047 bytes without a zero, found 2048",
    );
  });
});
