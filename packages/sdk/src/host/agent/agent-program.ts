import {
  addressOf,
  Assembler,
  at,
  eax,
  ebx,
  ecx,
  edi,
  edx,
  type Immediate,
  type Register,
  esi,
  mem,
  r10,
  r14,
  r15,
  rax,
  rbx,
  rcx,
  rdi,
  rdx,
  rsi,
} from "../../asm/index.ts";
import { Frame, MOST_COMMAND } from "./protocol.ts";
import { CODE_OFFSET, elfProgram, LOAD_ADDRESS } from "./elf-program.ts";

/** Where the agent talks to its host: the shell that starts it opens this descriptor. */
export const AGENT_FD = 3;

/** Linux, arch/x86/entry/syscalls/syscall_64.tbl. */
const Sys = {
  read: 0,
  write: 1,
  close: 3,
  poll: 7,
  lseek: 8,
  dup2: 33,
  nanosleep: 35,
  fork: 57,
  execve: 59,
  exit: 60,
  wait4: 61,
  pipe2: 293,
  memfd_create: 319,
} as const;

const O_CLOEXEC = 0x8_0000;
const MFD_CLOEXEC = 1;
const POLLIN = 1;
/** Behind the image: the command, then what is passed on. */
const COMMAND = 0x50_0000;
const CHUNK = COMMAND + MOST_COMMAND + 0x1000;
const CHUNK_LENGTH = 0x1_0000;
const EXEC_FAILED = 127;

/**
 * The program that runs in a guest and executes what a test asks for: a static executable without a C library, so that
 * it needs nothing of the guest but its kernel and `/bin/sh`. See `protocol.ts`.
 */
export function agentProgram(): Uint8Array {
  const a = new Assembler({ origin: LOAD_ADDRESS + CODE_OFFSET });
  const system = (number: number): void => {
    a.mov(eax, number);
    a.op("syscall");
  };
  const set = (
    ...pairs: readonly (readonly [Register, Register | Immediate | ReturnType<typeof mem>])[]
  ): void => {
    for (const [register, value] of pairs) a.mov(register, value);
  };
  const word = (label: string): ReturnType<typeof mem> => mem({ label, bits: 32 });
  const closeWord = (label: string): void => {
    a.mov(edi, word(label));
    system(Sys.close);
  };

  frame(a, Frame.HELLO, 0);
  a.label("request");
  set([rsi, addressOf("lengths")], [rdx, 8]);
  a.call("readExactly");
  a.mov(edx, word("lengths"));
  a.mov(rsi, COMMAND);
  a.call("readExactly");
  a.mov(at(rsi, 0, 8), 0);

  // Standard input of the command is a file in memory.
  set([rdi, addressOf("inputName")], [esi, MFD_CLOEXEC]);
  system(Sys.memfd_create);
  a.mov(word("input"), eax);
  a.mov(ebx, word("inputLength"));
  a.label("input more");
  a.test(rbx, rbx);
  a.j("z", "input done");
  a.mov(rdx, CHUNK_LENGTH);
  a.cmp(rbx, rdx);
  a.j("ae", "input chunk");
  a.mov(rdx, rbx);
  a.label("input chunk");
  a.sub(rbx, rdx);
  a.mov(r14, rdx);
  a.mov(rsi, CHUNK);
  a.call("readExactly");
  a.mov(edi, word("input"));
  set([rsi, CHUNK], [rdx, r14]);
  a.call("writeAll");
  a.jmp("input more");
  a.label("input done");
  a.mov(edi, word("input"));
  set([esi, 0], [edx, 0]);
  system(Sys.lseek);

  for (const pipe of ["out", "err"]) {
    set([rdi, addressOf(`${pipe} read`)], [esi, O_CLOEXEC]);
    system(Sys.pipe2);
  }
  system(Sys.fork);
  a.test(eax, eax);
  a.j("z", "child");
  a.mov(ebx, eax);
  closeWord("input");
  closeWord("out write");
  closeWord("err write");
  // struct pollfd { int fd; short events, revents; }
  for (const pipe of ["out", "err"]) {
    a.mov(ecx, word(`${pipe} read`));
    a.mov(word(`poll ${pipe}`), ecx);
  }
  a.mov(r15, 2);
  a.label("poll");
  set([rdi, addressOf("poll out")], [esi, 2], [rdx, -1]);
  system(Sys.poll);
  for (const [pipe, kind] of [
    ["out", Frame.STDOUT],
    ["err", Frame.STDERR],
  ] as const) {
    a.cmp(mem({ label: `revents ${pipe}`, bits: 16 }), 0);
    a.j("z", `${pipe} done`);
    a.mov(edi, word(`poll ${pipe}`));
    set([rsi, CHUNK], [edx, CHUNK_LENGTH]);
    system(Sys.read);
    a.test(rax, rax);
    a.j("le", `${pipe} end`);
    a.mov(r14, rax);
    a.mov(mem({ label: "frame kind", bits: 8 }), kind);
    a.mov(rcx, r14);
    a.mov(word("frame length"), ecx);
    a.call("writeHeader");
    set([edi, AGENT_FD], [rsi, CHUNK], [rdx, r14]);
    a.call("writeAll");
    a.jmp(`${pipe} done`);
    a.label(`${pipe} end`);
    a.mov(edi, word(`poll ${pipe}`));
    system(Sys.close);
    a.mov(word(`poll ${pipe}`), -1);
    a.dec(r15);
    a.label(`${pipe} done`);
  }
  a.test(r15, r15);
  a.j("nz", "poll");

  a.mov(edi, ebx);
  set([rsi, addressOf("status")], [edx, 0], [r10, 0]);
  system(Sys.wait4);
  frame(a, Frame.EXIT, 4);
  set([edi, AGENT_FD], [rsi, addressOf("status")], [rdx, 4]);
  a.call("writeAll");
  a.jmp("request");

  a.label("child");
  for (const [label, fd] of [
    ["input", 0],
    ["out write", 1],
    ["err write", 2],
  ] as const) {
    a.mov(edi, word(label));
    a.mov(esi, fd);
    system(Sys.dup2);
  }
  a.mov(edi, AGENT_FD);
  system(Sys.close);
  set([rdi, addressOf("shell")], [rsi, addressOf("arguments")], [rdx, addressOf("environment")]);
  system(Sys.execve);
  a.mov(edi, EXEC_FAILED);
  system(Sys.exit);

  // rdx bytes from the host to rsi, which is then behind them. Where nobody is at the other end, it waits.
  a.label("readExactly");
  a.test(rdx, rdx);
  a.j("z", "read done");
  a.mov(edi, AGENT_FD);
  system(Sys.read);
  a.test(rax, rax);
  a.j("le", "read later");
  a.add(rsi, rax);
  a.sub(rdx, rax);
  a.jmp("readExactly");
  a.label("read later");
  a.push(rsi);
  a.push(rdx);
  set([rdi, addressOf("a while")], [esi, 0]);
  system(Sys.nanosleep);
  a.pop(rdx);
  a.pop(rsi);
  a.jmp("readExactly");
  a.label("read done");
  a.op("ret");

  // rdx bytes from rsi to descriptor edi. What cannot be written is dropped: the host is gone.
  a.label("writeHeader");
  set([edi, AGENT_FD], [rsi, addressOf("frame kind")], [rdx, 5]);
  a.label("writeAll");
  a.test(rdx, rdx);
  a.j("z", "write done");
  system(Sys.write);
  a.test(rax, rax);
  a.j("le", "write done");
  a.add(rsi, rax);
  a.sub(rdx, rax);
  a.jmp("writeAll");
  a.label("write done");
  a.op("ret");

  data(a);
  return elfProgram(a.finish(), CHUNK + CHUNK_LENGTH - LOAD_ADDRESS);
}

/** Sends a frame's header. */
function frame(a: Assembler, kind: number, length: number): void {
  a.mov(mem({ label: "frame kind", bits: 8 }), kind);
  a.mov(mem({ label: "frame length", bits: 32 }), length);
  a.call("writeHeader");
}

function data(a: Assembler): void {
  const text = (label: string, value: string): void => {
    a.label(label);
    a.ascii(`${value}\0`);
  };
  text("inputName", "stdin");
  text("shell", "/bin/sh");
  text("sh", "sh");
  text("-c", "-c");
  text("PATH", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  text("HOME", "HOME=/root");
  a.align(8, 0);
  a.label("arguments");
  a.u64(addressOf("sh"), addressOf("-c"), COMMAND, 0);
  a.label("environment");
  a.u64(addressOf("PATH"), addressOf("HOME"), 0);
  a.label("a while");
  a.u64(0, 10_000_000);
  const words = (...labels: readonly string[]): void => {
    for (const label of labels) {
      a.label(label);
      a.u32(0);
    }
  };
  words("lengths", "inputLength", "input", "out read", "out write", "err read", "err write", "status");
  for (const pipe of ["out", "err"]) {
    a.label(`poll ${pipe}`);
    a.u32(0);
    a.u16(POLLIN);
    a.label(`revents ${pipe}`);
    a.u16(0);
  }
  a.label("frame kind");
  a.bytes(0);
  a.label("frame length");
  a.u32(0);
}
