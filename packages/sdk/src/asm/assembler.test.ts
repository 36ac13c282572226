import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from "iced-x86";
import { describe, expect, it } from "vitest";
import {
  addressOf,
  al,
  ah,
  Assembler,
  at,
  ax,
  cl,
  cr,
  cs,
  ds,
  dr,
  dx,
  eax,
  ebx,
  ecx,
  gs,
  mem,
  r10,
  r12,
  r13,
  r8,
  r9d,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
  rsp,
  ss,
} from "./index.ts";

/** What another decoder reads in what we assembled. */
function disassemble(bytes: Uint8Array, bits: 16 | 32 | 64, origin = 0x1000): string[] {
  const decoder = new Decoder(bits, bytes, DecoderOptions.None);
  decoder.ip = BigInt(origin);
  const formatter = new Formatter(FormatterSyntax.Intel);
  const lines: string[] = [];
  while (decoder.canDecode) {
    const instruction = decoder.decode();
    lines.push(formatter.format(instruction).replace(/\s+/g, " "));
    instruction.free();
  }
  formatter.free();
  decoder.free();
  return lines;
}

function assembled(bits: 16 | 32 | 64, write: (a: Assembler) => void): string[] {
  const a = new Assembler({ origin: 0x1000, bits });
  write(a);
  return disassemble(a.finish(), bits);
}

describe("Assembler", () => {
  it("encodes moves and addresses", () => {
    expect(
      assembled(64, (a) => {
        a.mov(rax, -1);
        a.mov(rax, 0x123456789an);
        a.mov(eax, 0x80000000);
        a.mov(r9d, ebx);
        a.mov(at(rsp, 8), rax);
        a.mov(rax, at(rbp));
        a.mov(at(r13), r12);
        a.mov(at(r12, 0x1000), al);
        a.mov(mem({ base: rbx, index: r10, scale: 8, displacement: -4 }), rcx);
        a.mov(mem({ displacement: 0x2000, bits: 32 }), 7);
        a.mov(mem({ base: rax, segment: gs, bits: 64 }), -5);
        a.mov(at(rax, 0, 16), 0x1234);
        a.mov(ah, 3);
        a.extend("movzx", eax, at(rsi, 0, 8));
        a.extend("movsx", r8, ax);
        a.lea(rdi, mem({ index: rcx, scale: 4, displacement: 16 }));
      }),
    ).toEqual([
      "mov rax,0FFFFFFFFFFFFFFFFh",
      "mov rax,123456789Ah",
      "mov eax,80000000h",
      "mov r9d,ebx",
      "mov [rsp+8],rax",
      "mov rax,[rbp]",
      "mov [r13],r12",
      "mov [r12+1000h],al",
      "mov [rbx+r10*8-4],rcx",
      "mov dword ptr [2000h],7",
      "mov qword ptr gs:[rax],0FFFFFFFFFFFFFFFBh",
      "mov word ptr [rax],1234h",
      "mov ah,3",
      "movzx eax,byte ptr [rsi]",
      "movsx r8,ax",
      "lea rdi,[rcx*4+10h]",
    ]);
  });

  it("encodes arithmetic, exchanges and strings", () => {
    expect(
      assembled(64, (a) => {
        a.add(rax, 1);
        a.sub(rsp, 0x1000);
        a.cmp(at(rdi, 0, 8), 0x20);
        a.xor(eax, eax);
        a.alu("adc", rdx, at(rsi, 4));
        a.unary("div", rcx);
        a.inc(at(rax, 0, 32));
        a.dec(rbx);
        a.shift("shl", rax, 4);
        a.shift("sar", ecx, cl);
        a.test(al, 1);
        a.exchange("cmpxchg", at(rdi), rcx, true);
        a.exchange("xadd", at(rdi), eax, true);
        a.rep();
        a.string("movs", 64);
        a.repne();
        a.string("scas", 8);
        a.rep();
        a.string("outs", 16);
        a.set("nz", al);
      }),
    ).toEqual([
      "add rax,1",
      "sub rsp,1000h",
      "cmp byte ptr [rdi],20h",
      "xor eax,eax",
      "adc rdx,[rsi+4]",
      "div rcx",
      "inc dword ptr [rax]",
      "dec rbx",
      "shl rax,4",
      "sar ecx,cl",
      "test al,1",
      "lock cmpxchg [rdi],rcx",
      "lock xadd [rdi],eax",
      "rep movsq [rdi],[rsi]",
      "repne scasb [rdi]",
      "rep outsw dx,[rsi]",
      "setne al",
    ]);
  });

  it("encodes what only systems use", () => {
    expect(
      assembled(64, (a) => {
        a.movToSystem(cr(3), rax);
        a.movFromSystem(r8, cr(8));
        a.movToSystem(dr(7), rdx);
        a.movSegment(ss, eax);
        a.readSegment(eax, cs);
        a.table("lidt", at(rax));
        a.table("invlpg", at(rdi));
        a.ltr(eax);
        a.out(0xe0, eax);
        a.in(al, dx);
        a.out(dx, ax);
        a.int(0x80);
        a.push(rax);
        a.push(0x10);
        a.pop(r12);
        a.op("iretq");
        a.op("sysretq");
        a.op("swapgs");
        a.op("wrmsr");
        a.jmpFarIndirect(at(rax), 64);
      }),
    ).toEqual([
      "mov cr3,rax",
      "mov r8,cr8",
      "mov dr7,rdx",
      "mov ss,ax",
      "mov eax,cs",
      "lidt [rax]",
      "invlpg [rdi]",
      "ltr ax",
      "out 0E0h,eax",
      "in al,dx",
      "out dx,ax",
      "int 80h",
      "push rax",
      "push 10h",
      "pop r12",
      "iretq",
      "sysretq",
      "swapgs",
      "wrmsr",
      "jmp far tbyte ptr [rax]",
    ]);
  });

  it("resolves labels backwards, forwards and RIP-relative", () => {
    expect(
      assembled(64, (a) => {
        a.label("top");
        a.jmp("end");
        a.j("z", "top");
        a.loop("top");
        a.call("end");
        a.lea(rax, mem({ label: "data" }));
        a.mov(mem({ label: "data", displacement: 4, bits: 32 }), 5);
        a.mov(rbx, addressOf("data"));
        a.label("end");
        a.label("data");
        a.op("ret");
      }),
    ).toEqual([
      "jmp 000000000000102Dh",
      "je 0000000000001000h",
      "loop 0000000000001000h",
      "call 000000000000102Dh",
      "lea rax,[102Dh]",
      "mov dword ptr [1031h],5",
      "mov rbx,102Dh",
      "ret",
    ]);
  });

  it("encodes 16- and 32-bit code", () => {
    expect(
      assembled(16, (a) => {
        a.op("cli");
        a.mov(ax, 0x10);
        a.movSegment(ds, ax);
        a.mov(eax, 1);
        a.table("lgdt", mem({ displacement: 0x7000 }));
        a.movToSystem(cr(0), eax);
        a.jmpFar(8, 0x8000, 32);
      }),
    ).toEqual([
      "cli",
      "mov ax,10h",
      "mov ds,ax",
      "mov eax,1",
      "lgdt [7000h]",
      "mov cr0,eax",
      "data32 jmp far 00008000h,8",
    ]);
    expect(
      assembled(32, (a) => {
        a.mov(eax, mem({ displacement: 0x2000 }));
        a.push(eax);
        a.mov(at(ecx, 8), ax);
        a.jmpFar(0x10, 0x9000, 32);
      }),
    ).toEqual(["mov eax,[2000h]", "push eax", "mov [ecx+8],ax", "jmp far 00009000h,0010h"]);
  });

  it("refuses what cannot be encoded, by name", () => {
    const a = new Assembler();
    a.jmp("nowhere");
    expect(() => a.finish()).toThrow("label nowhere is not bound");
    expect(() => new Assembler({ bits: 32 }).mov(rax, 1)).toThrow("64-bit operand");
    expect(() => new Assembler().mov(ah, at(r8))).toThrow("REX");
    expect(() => new Assembler().inc(at(rax))).toThrow("without a size");
  });
});
