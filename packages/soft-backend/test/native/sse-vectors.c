/*
 * Executes single instructions on the host's CPU. Reads cases from stdin until it ends, writes them back with the
 * registers as the instruction left them. The layout of a case is that of test/sse/case.ts.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct test_case {
    uint8_t xmm[4][16];
    uint64_t mm[4];
    uint64_t gpr[4]; /* rax rcx rdx rbx */
    uint8_t mem[16];
    uint32_t mxcsr;
    uint32_t flags;
    uint32_t trap;
    /* 0: operand aligned, inside a page; 0x100 + n: n bytes further; n < 0x100: the last n bytes before a hole */
    uint16_t place;
    uint16_t length;
    uint8_t code[16];
    uint16_t fsw;
    uint16_t ftag;
    uint16_t exponent[4];
    uint32_t pad;
};

_Static_assert(sizeof(struct test_case) == 192, "layout");

extern void run_case(struct test_case *c, uint8_t *mem, void *code, void *fx);

__asm__(".text\n.globl run_case\nrun_case:\n"
        "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rdi, %r12\nmov %rdx, %r13\nmov %rcx, %r15\nmov %rsi, %rdi\n"
        "fxrstor64 (%r15)\n"
        "mov 148(%r12), %eax\npush %rax\npopfq\n"
        "mov 96(%r12), %rax\nmov 104(%r12), %rcx\nmov 112(%r12), %rdx\nmov 120(%r12), %rbx\n"
        "call *%r13\n"
        "pushfq\npop %r14\n"
        "fxsave64 (%r15)\n"
        "mov %rax, 96(%r12)\nmov %rcx, 104(%r12)\nmov %rdx, 112(%r12)\nmov %rbx, 120(%r12)\n"
        "mov %r14d, 148(%r12)\n"
        "cld\nfninit\nmovl $0x1f80, -8(%rsp)\nldmxcsr -8(%rsp)\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

static uint8_t *code_page;
static uint64_t return_address;
static uint32_t trap;

static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    switch (number) {
    case SIGFPE: trap = 19; break;
    case SIGILL: trap = 6; break;
    case SIGSEGV: trap = info->si_code == SI_KERNEL ? 13 : 14; break;
    default: trap = 255;
    }
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)return_address;
}

static uint8_t fx[512] __attribute__((aligned(16)));

static void execute(struct test_case *c, uint8_t *pages)
{
    uint8_t *mem = pages + 2048;
    size_t room = 16;
    if (c->place >= 0x100) {
        mem += c->place - 0x100;
    } else if (c->place) {
        mem = pages + 4096 - c->place;
        room = c->place < 16 ? c->place : 16;
    }
    memcpy(mem, c->mem, room);
    memcpy(code_page, c->code, c->length);
    code_page[c->length] = 0xc3;
    return_address = (uint64_t)(code_page + c->length);

    memset(fx, 0, sizeof fx);
    uint16_t fcw = 0x37f;
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &c->fsw, 2);
    fx[4] = (uint8_t)c->ftag;
    memcpy(fx + 24, &c->mxcsr, 4);
    unsigned top = (c->fsw >> 11) & 7;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *slot = fx + 32 + 16 * ((i - top) & 7);
        memcpy(slot, &c->mm[i], 8);
        memcpy(slot + 8, &c->exponent[i], 2);
        memcpy(fx + 160 + 16 * i, c->xmm[i], 16);
    }

    trap = 0;
    run_case(c, mem, code_page, fx);
    c->trap = trap;

    memcpy(&c->fsw, fx + 2, 2);
    c->ftag = fx[4];
    memcpy(&c->mxcsr, fx + 24, 4);
    top = (c->fsw >> 11) & 7;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *slot = fx + 32 + 16 * ((i - top) & 7);
        memcpy(&c->mm[i], slot, 8);
        memcpy(&c->exponent[i], slot + 8, 2);
        memcpy(c->xmm[i], fx + 160 + 16 * i, 16);
    }
    memcpy(c->mem, mem, room);
}

int main(void)
{
    uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || code_page == MAP_FAILED || mprotect(pages + 4096, 4096, PROT_NONE)) {
        perror("mmap");
        return 1;
    }
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);

    struct test_case c;
    while (fread(&c, sizeof c, 1, stdin) == 1) {
        execute(&c, pages);
        if (fwrite(&c, sizeof c, 1, stdout) != 1) return 1;
    }
    return 0;
}
