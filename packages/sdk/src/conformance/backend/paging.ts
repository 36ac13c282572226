import { al, at, cr, ds, eax, ebx, ecx, mem, rax, rbx, rcx, rdi, rdx, rsp } from "../../asm/index.ts";
import { windowEntry, windowPage } from "./bench.ts";
import { type ConformanceCase, program } from "./cases.ts";
import { Gpa, PTE, Selector } from "./layout.ts";
import type { GuestProgram } from "./program.ts";

const PF = 14;
/** #PF error code bits (SDM 3A §4.7). */
const Error = { P: 1, W: 2, U: 4, RSVD: 8, I: 16 } as const;
const { P, RW, US } = PTE;
const low = (address: number): number => address % 2 ** 32;
const entryGpa = (index: number): number => Gpa.WINDOW_PT + 8 * index;

/** A user-mode access at label `user.N`, whose #PF returns to the kernel. */
function userAccess(g: GuestProgram, address: number, write: boolean): void {
  const label = g.a.unique("user");
  const after = g.a.unique("behind");
  g.faults(() => {
    g.enterUser(label);
  });
  g.a.jmp(after);
  g.a.label(label);
  g.a.mov(rbx, address);
  if (write) g.a.mov(at(rbx), rax);
  else g.a.mov(rax, at(rbx));
  g.a.int(33);
  g.a.label(after);
}

export const pagingCases: readonly ConformanceCase[] = [
  program("tells not-present reads, writes and fetches apart in the error code", (g) => {
    const page = windowPage(3) + 0x123;
    g.a.mov(rbx, page);
    const read = g.faults((a) => a.mov(rax, at(rbx)));
    g.faults((a) => a.mov(at(rbx), rax));
    g.faults((a) => a.add(at(rbx, 0, 8), 1));
    g.faults((a) => a.jmp(rbx));
    g.done();
    return () => [
      { vector: PF, error: 0, cr2: low(page), rip: g.a.addressOf(read), cs: Selector.KERNEL_CODE },
      { vector: PF, error: Error.W, cr2: low(page) },
      { vector: PF, error: Error.W, cr2: low(page) },
      { vector: PF, error: Error.I, cr2: low(page), rip: low(page) },
    ];
  }),
  program("keeps ring 3 out of supervisor, read-only and absent pages", (g) => {
    g.window.set(1, windowEntry(1, P | RW));
    g.window.set(2, windowEntry(2, P | US));
    userAccess(g, windowPage(1), false);
    userAccess(g, windowPage(1), true);
    userAccess(g, windowPage(2), false);
    userAccess(g, windowPage(2), true);
    userAccess(g, windowPage(9), false);
    userAccess(g, windowPage(9), true);
    g.done();
    return [
      { vector: PF, error: Error.U | Error.P, cs: Selector.USER_CODE },
      { vector: PF, error: Error.U | Error.P | Error.W },
      { vector: 33, cs: Selector.USER_CODE },
      { vector: PF, error: Error.U | Error.P | Error.W, cr2: low(windowPage(2)) },
      { vector: PF, error: Error.U },
      { vector: PF, error: Error.U | Error.W },
    ];
  }),
  program("lets CPL 0 write read-only pages only while CR0.WP is clear", (g) => {
    g.window.set(0, windowEntry(0, P));
    const { a } = g;
    a.mov(rbx, windowPage(0));
    g.faults(() => a.mov(at(rbx), rax));
    a.movFromSystem(rax, cr(0));
    a.and(rax, ~0x10000);
    a.movToSystem(cr(0), rax);
    a.mov(at(rbx, 0, 32), 77);
    a.mov(ebx, at(rbx));
    g.report(ebx);
    a.or(rax, 0x10000);
    a.movToSystem(cr(0), rax);
    a.mov(rbx, windowPage(0));
    g.faults(() => a.mov(at(rbx), rax));
    g.done();
    return [{ vector: PF, error: Error.P | Error.W }, 77, { vector: PF, error: Error.P | Error.W }];
  }),
  program("refuses to execute from pages with NX", (g) => {
    g.window.set(0, windowEntry(0, P | RW, true));
    g.window.set(1, windowEntry(0, P | RW));
    g.memory.set(Gpa.PAGES, Uint8Array.of(0xc3));
    g.a.mov(rbx, windowPage(0));
    g.faults((a) => a.call(rbx));
    g.a.mov(rbx, windowPage(1));
    g.a.call(rbx);
    g.report(1);
    g.done();
    return [{ vector: PF, error: Error.P | Error.I, rip: low(windowPage(0)), cr2: low(windowPage(0)) }, 1];
  }),
  program("reports reserved bits of a large page's entry", (g) => {
    const { a } = g;
    a.mov(rax, Gpa.WINDOW_PD + 8);
    a.mov(at(rax, 0, 64), P | RW | PTE.PS | 0x2000 | Gpa.PAGES);
    a.mov(rbx, windowPage(512));
    g.faults(() => a.mov(rax, at(rbx)));
    g.done();
    return [{ vector: PF, error: Error.P | Error.RSVD, cr2: low(windowPage(512)) }];
  }),
  program("sets accessed and dirty bits at every level, dirty only by writes", (g) => {
    const { a } = g;
    g.window.set(5, windowEntry(5, P | RW));
    const report = (gpa: number): void => {
      a.mov(eax, gpa);
      a.mov(eax, at(rax));
      a.and(eax, PTE.A | PTE.D);
      g.report(eax);
    };
    report(entryGpa(5));
    a.mov(rbx, windowPage(5));
    a.mov(rcx, at(rbx));
    report(entryGpa(5));
    report(Gpa.WINDOW_PD);
    report(Gpa.WINDOW_PDPT);
    a.mov(at(rbx), rcx);
    report(entryGpa(5));
    g.done();
    return [0, PTE.A, PTE.A, PTE.A, PTE.A | PTE.D];
  }),
  program("uses a changed entry after INVLPG, a write to CR3, and a change of CR4.PGE", (g) => {
    const { a } = g;
    for (let page = 0; page < 4; page++) g.memory.set(Gpa.PAGES + 0x1000 * page, Uint8Array.of(page + 10));
    g.window.set(0, windowEntry(0, P | RW | PTE.G));
    g.window.set(1, windowEntry(0, P | RW));
    const read = (index: number): void => {
      a.mov(rbx, windowPage(index));
      a.extend("movzx", eax, at(rbx, 0, 8));
      g.report(eax);
    };
    const remap = (index: number, page: number, flags: number): void => {
      a.mov(rax, entryGpa(index));
      a.mov(at(rax, 0, 64), (Gpa.PAGES + 0x1000 * page) | P | RW | flags);
    };
    read(0);
    read(1);
    remap(0, 1, PTE.G);
    a.mov(rbx, windowPage(0));
    a.table("invlpg", at(rbx));
    read(0);
    remap(1, 2, 0);
    a.movFromSystem(rax, cr(3));
    a.movToSystem(cr(3), rax);
    read(1);
    remap(0, 3, PTE.G);
    a.movFromSystem(rax, cr(4));
    a.xor(rax, 0x80);
    a.movToSystem(cr(4), rax);
    read(0);
    g.done();
    return [10, 10, 11, 12, 13];
  }),
  program("raises #PF for an entry just made absent, once invalidated", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, P | RW));
    a.mov(rbx, windowPage(0));
    a.mov(rax, at(rbx));
    a.mov(rax, entryGpa(0));
    a.mov(at(rax, 0, 64), 0);
    a.table("invlpg", at(rbx));
    g.faults(() => a.mov(rax, at(rbx)));
    g.done();
    return [{ vector: PF, error: 0 }];
  }),
  program("maps 2 MiB pages with their offset", (g) => {
    const { a } = g;
    g.memory.set(0x212345, Uint8Array.of(0x5a));
    a.mov(rax, Gpa.WINDOW_PD + 16);
    a.mov(at(rax, 0, 64), P | RW | PTE.PS | 0x200000);
    a.mov(rbx, windowPage(1024) + 0x12345);
    a.extend("movzx", eax, at(rbx, 0, 8));
    g.report(eax);
    g.done();
    return [0x5a];
  }),
  program("forgets all of a 2 MiB page with one INVLPG", (g) => {
    const { a } = g;
    g.memory.set(0x200000 + Gpa.DATA, Uint8Array.of(1));
    g.memory.set(Gpa.DATA, Uint8Array.of(2));
    a.mov(rax, Gpa.WINDOW_PD + 16);
    a.mov(at(rax, 0, 64), P | RW | PTE.PS | 0x200000);
    a.mov(rbx, windowPage(1024));
    a.mov(rcx, at(rbx));
    a.extend("movzx", ecx, at(rbx, Gpa.DATA, 8));
    g.report(ecx);
    a.mov(at(rax, 0, 64), P | RW | PTE.PS);
    a.table("invlpg", at(rbx, 0x1000));
    a.extend("movzx", ecx, at(rbx, Gpa.DATA, 8));
    g.report(ecx);
    g.done();
    return [1, 2];
  }),
  program("goes on in the new page behind INVLPG of the page it runs in", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, P | RW));
    // mov [rax], rdx; invlpg [rbx]; mov ecx, page; ret
    for (const page of [0, 1]) {
      const code = [0x48, 0x89, 0x10, 0x0f, 0x01, 0x3b, 0xb9, page + 1, 0, 0, 0, 0xc3];
      g.memory.set(Gpa.PAGES + 0x1000 * page, Uint8Array.from(code));
    }
    a.mov(rax, entryGpa(0));
    a.mov(rbx, windowPage(0));
    for (const page of [0, 0, 1]) {
      a.mov(rdx, Number(windowEntry(page, P | RW)));
      a.call(rbx);
      g.report(ecx);
    }
    g.done();
    return [1, 1, 2];
  }),
  program("reads across 4 GiB to address 0 outside 64-bit mode", (g) => {
    const { a } = g;
    g.memory.set(0, Uint8Array.of(0x34, 0x12));
    g.faults(() => {
      g.enterUser("user", { code: Selector.USER_CODE32 });
    });
    g.report(eax);
    g.done();
    a.label("user");
    a.mov(ecx, Selector.USER_DATA); // going out to ring 3 has made DS null
    a.movSegment(ds, ecx);
    a.bytes(0xa1, 0xfe, 0xff, 0xff, 0xff); // mov eax, [0xfffffffe]
    a.int(33);
    return [{ vector: 33, cs: Selector.USER_CODE32 }, 0x1234ffff];
  }),
  program("changes no segment where the accessed bit cannot be written", (g) => {
    const { a } = g;
    // The GDT through a read-only page; its descriptor not accessed yet.
    g.window.set(0, windowEntry(0, P));
    const gdt = new DataView(new ArrayBuffer(0x100));
    gdt.setBigUint64(Selector.KERNEL_CODE, 0x00af9b000000ffffn, true);
    gdt.setBigUint64(Selector.KERNEL_DATA, 0x00cf93000000ffffn, true);
    gdt.setBigUint64(Selector.READ_ONLY_DATA, 0x00cf90000000ffffn, true);
    g.memory.set(Gpa.PAGES, new Uint8Array(gdt.buffer));
    const pointer = new DataView(new ArrayBuffer(10));
    pointer.setUint16(0, 0xff, true);
    pointer.setBigUint64(2, BigInt(windowPage(0)), true);
    g.memory.set(Gpa.DATA, new Uint8Array(pointer.buffer));
    a.mov(eax, Gpa.DATA);
    a.table("lgdt", at(rax));
    a.mov(ecx, Selector.READ_ONLY_DATA);
    const load = g.faults(() => {
      a.movSegment(ds, ecx);
    });
    a.readSegment(eax, ds);
    g.report(eax);
    g.done();
    return () => [
      {
        vector: PF,
        error: Error.P | Error.W,
        cr2: low(windowPage(0) + Selector.READ_ONLY_DATA + 4),
        rip: a.addressOf(load),
      },
      Selector.KERNEL_DATA,
    ];
  }),
  program("raises #GP, and #SS by way of the stack, for addresses that are not canonical", (g) => {
    const { a } = g;
    g.gate(12, { ist: 1 });
    a.mov(rbx, 0x800000000000);
    g.faults(() => a.mov(rax, at(rbx)));
    g.faults(() => a.jmp(rbx));
    a.add(rbx, 0x1000);
    g.faults(() => {
      a.mov(rsp, rbx);
      a.push(rax);
    });
    g.done();
    return [
      { vector: 13, error: 0 },
      { vector: 13, error: 0 },
      { vector: 12, error: 0 },
    ];
  }),
  program("writes nothing of an access whose second page faults", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, P | RW));
    a.mov(rbx, windowPage(1) - 4);
    a.mov(at(rbx, 0, 32), 0x1234);
    a.mov(rax, -1);
    g.faults(() => a.mov(at(rbx), rax));
    a.mov(eax, at(rbx));
    g.report(eax);
    a.mov(rax, windowPage(1) - 1);
    g.faults(() => a.alu("add", at(rax, 0, 16), 1));
    g.done();
    return [
      { vector: PF, error: Error.W, cr2: low(windowPage(1)) },
      0x1234,
      { vector: PF, error: Error.W, cr2: low(windowPage(1)) },
    ];
  }),
  program("stops REP MOVS at the fault and goes on from there", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, P | RW));
    a.mov({ ...rax, number: 6 }, Gpa.DATA);
    a.mov(rdi, windowPage(1) - 24);
    a.mov(rcx, 10);
    const start = g.faults(() => {
      a.rep();
      a.string("movs", 64);
    });
    g.report(rcx);
    g.report(rdi);
    g.report({ ...rax, number: 6 });
    a.mov(rax, entryGpa(1));
    a.mov(at(rax, 0, 64), Number(windowEntry(1, P | RW)));
    a.rep();
    a.string("movs", 64);
    g.report(rcx);
    a.mov(rbx, windowPage(1));
    a.mov(al, at(rbx, 55));
    a.extend("movzx", eax, al);
    g.report(eax);
    g.memory.set(
      Gpa.DATA,
      Uint8Array.from({ length: 80 }, (_, i) => i + 1),
    );
    g.done();
    return () => [
      { vector: PF, error: Error.W, cr2: low(windowPage(1)), rip: g.a.addressOf(start) },
      7,
      low(windowPage(1)),
      Gpa.DATA + 24,
      0,
      80,
    ];
  }),
  program("resumes REP STOS, SCAS and CMPS after a fault with the count right", (g) => {
    const { a } = g;
    g.window.set(0, windowEntry(0, P | RW));
    a.mov(rcx, 0x2000);
    a.mov(rdi, windowPage(0));
    a.mov(rax, 0);
    g.faults(() => {
      a.rep();
      a.string("stos", 32);
    });
    g.report(rcx);
    a.mov(rcx, 0x2000);
    a.mov(rdi, windowPage(0));
    g.faults(() => {
      a.rep();
      a.string("scas", 16);
    });
    g.report(rcx);
    a.mov(rcx, 0x2000);
    a.mov(rdi, windowPage(0));
    a.mov({ ...rax, number: 6 }, windowPage(0));
    g.faults(() => {
      a.rep();
      a.string("cmps", 8);
    });
    g.report(rcx);
    g.done();
    return [
      { vector: PF, error: Error.W },
      0x2000 - 0x400,
      { vector: PF, error: 0 },
      0x2000 - 0x800,
      { vector: PF, error: 0 },
      0x1000,
    ];
  }),
  program("reads through RIP-relative and absolute addresses alike", (g) => {
    const { a } = g;
    a.mov(eax, mem({ label: "constant" }));
    g.report(eax);
    g.done();
    a.label("constant");
    a.u32(0x1337);
    return [0x1337];
  }),
];
