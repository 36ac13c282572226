/*
 * Executes user-mode instruction vectors on the host's processor: the oracle of the software CPU.
 * Reads a stream of vectors on stdin and writes what the processor made of each on stdout; the format is
 * in ../fuzz/native.ts. Every vector ends in a trap (INT3 at the latest), whose signal frame holds the result.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x10000000ul
#define CODE_SIZE 0x2000
#define DATA 0x20000000ul
#define DATA_SIZE 0x2000
#define STACK 0x30000000ul
#define STACK_SIZE 0x1000
#define GS_BASE (DATA + 0x800)
#define IMAGE_SIZE (DATA_SIZE + STACK_SIZE)
#define TIMEOUT_TRAP 255

uint64_t in_regs[16], in_flags, saved_rsp, target64;
struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target32;
static uint64_t out_regs[16], out_rip, out_flags, out_cr2;
static uint8_t out_trap;
static uint32_t out_error;

void enter64(void);
void enter32(void);
extern char resume[];

#define LOAD_STATE \
  "pushq in_flags(%rip)\npopfq\n" \
  "mov in_regs+0(%rip),%rax\nmov in_regs+8(%rip),%rcx\nmov in_regs+16(%rip),%rdx\nmov in_regs+24(%rip),%rbx\n" \
  "mov in_regs+40(%rip),%rbp\nmov in_regs+48(%rip),%rsi\nmov in_regs+56(%rip),%rdi\n" \
  "mov in_regs+64(%rip),%r8\nmov in_regs+72(%rip),%r9\nmov in_regs+80(%rip),%r10\nmov in_regs+88(%rip),%r11\n" \
  "mov in_regs+96(%rip),%r12\nmov in_regs+104(%rip),%r13\nmov in_regs+112(%rip),%r14\nmov in_regs+120(%rip),%r15\n" \
  "mov in_regs+32(%rip),%rsp\n"
#define SAVE_HOST \
  "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp,saved_rsp(%rip)\n"

__asm__(".text\n"
        "enter64:\n" SAVE_HOST LOAD_STATE "jmp *target64(%rip)\n"
        "enter32:\n" SAVE_HOST LOAD_STATE "ljmp *target32(%rip)\n"
        "resume:\npop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

static const int GREG[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void on_trap(int signal, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  greg_t *g = u->uc_mcontext.gregs;
  (void)info;
  for (int i = 0; i < 16; i++) out_regs[i] = g[GREG[i]];
  out_rip = g[REG_RIP];
  out_flags = g[REG_EFL];
  out_trap = signal == SIGALRM ? TIMEOUT_TRAP : (uint8_t)g[REG_TRAPNO];
  out_error = g[REG_ERR];
  out_cr2 = g[REG_CR2];
  g[REG_RIP] = (greg_t)resume;
  g[REG_RSP] = saved_rsp;
  g[REG_EFL] = 0x202;
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffl) | 0x33;
}

static void *map(unsigned long at, size_t length, int protection, int fd) {
  void *p = mmap((void *)at, length, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
  if (p != (void *)at) { perror("mmap"); exit(1); }
  return p;
}

static void must_read(void *into, size_t n) {
  if (fread(into, 1, n, stdin) != n) { fputs("int-vectors: truncated input\n", stderr); exit(1); }
}
static void put(const void *from, size_t n) { fwrite(from, 1, n, stdout); }

int main(void) {
  int code_fd = memfd_create("code", 0), data_fd = memfd_create("data", 0), stack_fd = memfd_create("stack", 0);
  if (ftruncate(code_fd, CODE_SIZE) || ftruncate(data_fd, DATA_SIZE) || ftruncate(stack_fd, STACK_SIZE)) return 1;
  map(CODE, CODE_SIZE, PROT_READ | PROT_EXEC, code_fd);
  uint8_t *code = mmap(0, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, code_fd, 0);
  uint8_t *data = map(DATA, DATA_SIZE, PROT_READ | PROT_WRITE, data_fd);
  uint8_t *stack = map(STACK, STACK_SIZE, PROT_READ | PROT_WRITE, stack_fd);
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE)) { perror("arch_prctl"); return 1; }

  /* Compatibility mode needs DS and ES; 64-bit mode ignores them. */
  __asm__ volatile("mov %0, %%ds\nmov %0, %%es" ::"r"(0x2b));

  static uint8_t alternate[65536];
  stack_t ss = {.ss_sp = alternate, .ss_size = sizeof alternate};
  sigaltstack(&ss, 0);
  struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigfillset(&sa.sa_mask);
  int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &sa, 0);

  uint32_t images;
  must_read(&images, 4);
  uint8_t *image = malloc((size_t)images * IMAGE_SIZE);
  must_read(image, (size_t)images * IMAGE_SIZE);
  memset(code, 0xcc, CODE_SIZE);

  struct { uint8_t mode, image; uint16_t start, length; } __attribute__((packed)) head;
  while (fread(&head, 1, sizeof head, stdin) == sizeof head) {
    must_read(in_regs, sizeof in_regs);
    must_read(&in_flags, 8);
    must_read(code + head.start, head.length);
    const uint8_t *source = image + (size_t)head.image * IMAGE_SIZE;
    memcpy(data, source, DATA_SIZE);
    memcpy(stack, source + DATA_SIZE, STACK_SIZE);
    target64 = CODE + head.start;
    target32.offset = CODE + head.start;
    target32.selector = 0x23;
    alarm(2);
    if (head.mode == 32) enter32();
    else enter64();
    memset(code + head.start, 0xcc, head.length);

    put(&out_trap, 1);
    put(&out_error, 4);
    put(&out_cr2, 8);
    put(&out_rip, 8);
    put(&out_flags, 8);
    put(out_regs, sizeof out_regs);
    /* Changed bytes as runs: {u16 offset into the image, u16 length, bytes}, ended by length 0. */
    for (unsigned i = 0; i < IMAGE_SIZE;) {
      const uint8_t *now = i < DATA_SIZE ? data + i : stack + i - DATA_SIZE;
      if ((i & 7) == 0 && !memcmp(now, source + i, 8)) { i += 8; continue; }
      if (*now == source[i]) { i++; continue; }
      unsigned end = i;
      unsigned limit = i < DATA_SIZE ? DATA_SIZE : IMAGE_SIZE;
      while (end < limit && now[end - i] != source[end]) end++;
      uint16_t run[2] = {(uint16_t)i, (uint16_t)(end - i)};
      put(run, 4);
      put(now, end - i);
      i = end;
    }
    uint16_t last[2] = {0, 0};
    put(last, 4);
  }
  return 0;
}
