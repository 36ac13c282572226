/* x87 instructions of this CPU from biased states, as records for x87.test.ts.
 * usage: x87-vectors records SEED COUNT basic|transcendental|environment
 *        x87-vectors table
 * The instruction runs between FXRSTOR and FXSAVE, so an unmasked exception is left pending and seen in the status word.
 * record (408 bytes, little endian): opcode u8, modrm u8, flags in u8, flags out u8 (CF 1, PF 4, ZF 0x40), opsize16 u8, 0 u8[3],
 *   before: fcw u16, fsw u16, tag u16, ax u16, st0...st7 10 bytes each, memory 112 bytes (offset 8); after: the same (offset 208)
 * table: for D8...DF, for no prefix and 66: 8 x size of the memory operand (0: #UD; +128: written), then 64 x legal */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include "vectors.h"

#define MEMORY 112
struct state { uint16_t fcw, fsw, tag, ax; uint8_t st[8][10]; uint8_t memory[MEMORY]; };
struct record { uint8_t opcode, modrm, flagsIn, flagsOut, opsize16, pad[3]; struct state before, after; };

static uint8_t image[512] __attribute__((aligned(16)));
static uint8_t operandBytes[MEMORY] __attribute__((aligned(16)));

static void extended(uint8_t *out) {
  uint64_t sig = 1ull << 63 | fraction(63);
  uint16_t sign = rng() & 0x8000, exp;
  switch (below(16)) {
    case 0: sig = 0; exp = 0; break;
    case 1: sig = 1ull << 63; exp = 0x7fff; break;
    case 2: exp = 0x7fff; break;
    case 3: exp = 0; sig &= ~0ull >> 1; break;
    case 4: exp = 1 + below(80); break;
    case 5: exp = 0x7ffe - below(80); break;
    case 6: exp = 0x3fff - 1074 + below(80); break;
    case 7: exp = 0x3fff + 1020 + below(8); break;
    case 8: exp = below(2) ? 0x3fff - 149 + below(30) : 0x3fff + 120 + below(10); break;
    case 9: exp = below(0x7fff); break;
    case 10: if (below(4) == 0) { exp = below(0x8000); sig = fraction(64); break; } /* fall through */
    case 11: exp = 0x3fff - 2 + below(70); break;
    case 12: { uint64_t n = fraction(63) >> below(60) | 1; int s = __builtin_clzll(n); sig = n << s; exp = 0x3fff + 63 - s; break; }
    default: exp = 0x3fff - 4 + below(8);
  }
  exp |= sign;
  memcpy(out, &sig, 8);
  memcpy(out + 8, &exp, 2);
}

/* A number in the domain of the transcendental instructions. */
static void moderate(uint8_t *out) {
  uint64_t sig = 1ull << 63 | fraction(63);
  uint16_t exp = (rng() & 0x8000) | (below(4) == 0 ? 0x3fff - 70 + below(134) : 0x3fff - 6 + below(8));
  memcpy(out, &sig, 8);
  memcpy(out + 8, &exp, 2);
}

static int supported(int opcode, int modrm) {
  int reg = modrm >> 3 & 7;
  if (modrm < 0xc0) {
    if (opcode == 0xd9) return reg != 1;
    if (opcode == 0xdb) return reg != 4 && reg != 6;
    if (opcode == 0xdd) return reg != 5;
    return 1;
  }
  switch (opcode) {
    case 0xd9: return (reg < 2 || modrm == 0xd0 || reg == 3 || modrm == 0xe0 || modrm == 0xe1 || modrm == 0xe4 || modrm == 0xe5 ||
                       (reg == 5 && modrm != 0xef) || reg >= 6);
    case 0xda: return reg < 4 || modrm == 0xe9;
    case 0xdb: return reg < 4 || (modrm >= 0xe2 && modrm <= 0xe3) || reg == 5 || reg == 6;
    case 0xdd: return reg < 6;
    case 0xde: return reg != 3 || modrm == 0xd9;
    case 0xdf: return reg < 4 || modrm == 0xe0 || reg == 5 || reg == 6;
  }
  return 1;
}

static int environment(int opcode, int modrm) {
  int reg = modrm >> 3 & 7;
  return modrm < 0xc0 && ((opcode == 0xd9 && (reg == 4 || reg == 6)) || (opcode == 0xdd && (reg == 4 || reg == 6)));
}

static int transcendental(int opcode, int modrm) {
  return opcode == 0xd9 && ((modrm >= 0xf0 && modrm <= 0xf3) || modrm == 0xf9 || modrm == 0xfb || modrm == 0xfe || modrm == 0xff);
}

static void assemble(uint8_t *code, int opcode, int modrm, int opsize16) {
  if (opsize16) *code++ = 0x66;
  code[0] = (uint8_t)opcode; code[1] = (uint8_t)modrm; code[2] = 0xc3;
}

static int kindOf(int opcode, int modrm) {
  return transcendental(opcode, modrm) ? 1 : environment(opcode, modrm) ? 2 : 0;
}

static void records(uint8_t *code, long count, int kind) {
  int wanted = kind == 1;
  for (long n = count; n > 0; n--) {
    struct record t;
    memset(&t, 0, sizeof t);
    do {
      t.opcode = 0xd8 + below(8);
      t.modrm = below(2) ? 0xc0 + below(64) : 0x07 | below(8) << 3; /* [rdi] */
      if (wanted || (kind == 0 && below(4) == 0)) { t.opcode = 0xd9; t.modrm = 0xe0 + below(32); }
    } while (!supported(t.opcode, t.modrm) || kindOf(t.opcode, t.modrm) != kind);
    int top = below(4) ? 0 : below(8), i = t.modrm & 7;
    struct state *b = &t.before;
    b->fcw = 0x40 | (below(4) ? 0x3f : below(64)) | (below(2) ? 3 : below(4)) << 8 | below(4) << 10;
    if (wanted) b->fcw = 0x340 | (below(4) ? 0x3f : below(64)) | (below(4) ? 0 : below(4) << 10);
    b->fsw = top << 11 | (below(4) ? 0 : rng() & 0x4700);
    b->tag = below(6) ? 0x0f : below(256);
    if (t.modrm >= 0xc0 && below(8)) b->tag |= 1 << i;
    b->tag = (b->tag << top | b->tag >> (8 - top)) & 0xff;
    b->ax = 0x1234;
    for (int r = 0; r < 8; r++) {
      if (r > 1 && (t.modrm < 0xc0 || r != i)) continue;
      if (wanted && below(6)) moderate(b->st[r]); else extended(b->st[r]);
    }
    if (below(6) == 0) { memcpy(b->st[1], b->st[0], 10); b->st[1][below(10)] ^= 1 << below(8); }
    if (t.modrm < 0xc0) {
      int form = t.opcode & 7, reg = t.modrm >> 3 & 7;
      if (form == 0 || (form == 1 && reg < 4)) { uint32_t v = operand32(); memcpy(b->memory, &v, 4); }
      else if (form == 4 || (form == 5 && reg < 4)) { uint64_t v = operand64(); memcpy(b->memory, &v, 8); }
      else if (form == 3 && reg == 5) extended(b->memory);
      else if (form == 7 && reg == 4) { for (int k = 0; k < 9; k++) b->memory[k] = below(10) << 4 | below(10); b->memory[9] = rng() & 0x80; }
      else { uint64_t v = fraction(64); memcpy(b->memory, &v, 8); }
    }
    if (kind == 2) {
      int step;
      t.opsize16 = below(2);
      step = t.opsize16 ? 2 : 4;
      for (int k = 0; k < 3; k++) { uint16_t v = (uint16_t)rng(); memcpy(b->memory + step * k, &v, 2); }
      if (t.opcode == 0xdd) for (int r = 0; r < 8; r++) extended(b->memory + 7 * step + 10 * r);
    }
    t.flagsIn = rng() & 0x45;

    memset(image, 0, 512);
    memcpy(image, &b->fcw, 2);
    memcpy(image + 2, &b->fsw, 2);
    image[4] = (uint8_t)b->tag;
    *(uint32_t *)(image + 24) = 0x1f80;
    for (int r = 0; r < 8; r++) memcpy(image + 32 + 16 * r, b->st[r], 10);
    memcpy(operandBytes, b->memory, MEMORY);
    assemble(code, t.opcode, t.modrm, t.opsize16);
    uint64_t flags = 0x202 | t.flagsIn, ax = b->ax;
    __asm__ volatile(
      "sub $128, %%rsp\n\tfxrstor (%[image])\n\tpush %[flags]\n\tpopfq\n\tcall *%[code]\n\tpushfq\n\tpop %[flags]\n\t"
      "fxsave (%[image])\n\tfninit\n\tadd $128, %%rsp"
      : [flags] "+r"(flags), "+a"(ax) : [image] "r"(image), [code] "r"(code), "D"(operandBytes) : "memory", "cc");
    struct state *a = &t.after;
    memcpy(&a->fcw, image, 2);
    memcpy(&a->fsw, image + 2, 2);
    a->tag = image[4];
    a->ax = (uint16_t)ax;
    for (int r = 0; r < 8; r++) memcpy(a->st[r], image + 32 + 16 * r, 10);
    memcpy(a->memory, operandBytes, MEMORY);
    t.flagsOut = flags & 0x45;
    fwrite(&t, sizeof t, 1, stdout);
  }
}

static sigjmp_buf trapped;
static void trap(int signal) { siglongjmp(trapped, signal); }

/* The signal that the instruction raised, or 0. */
static int attempt(uint8_t *code, void *operand) {
  int signal = sigsetjmp(trapped, 1);
  if (signal == 0) __asm__ volatile("sub $128, %%rsp\n\tfninit\n\tcall *%0\n\tadd $128, %%rsp" : : "r"(code), "D"(operand) : "memory", "rax", "cc");
  __asm__ volatile("fninit");
  return signal;
}

static void table(uint8_t *code) {
  static const int sizes[] = {2, 4, 8, 10, 14, 28, 94, 108};
  uint8_t *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t *end = pages + 4096;
  mprotect(end, 4096, PROT_NONE);
  signal(SIGILL, trap); signal(SIGSEGV, trap); signal(SIGBUS, trap);
  for (int opcode = 0xd8; opcode <= 0xdf; opcode++)
    for (int prefix = 0; prefix < 2; prefix++) {
      for (int reg = 0; reg < 8; reg++) {
        uint8_t size = 0;
        assemble(code, opcode, 7 | reg << 3, prefix);
        for (unsigned k = 0; k < sizeof sizes / sizeof *sizes && size == 0; k++) {
          memset(pages, 0, 4096);
          int signal = attempt(code, end - sizes[k]);
          if (signal == SIGILL) break;
          if (signal == 0) size = (uint8_t)sizes[k];
        }
        if (size != 0) {
          mprotect(pages, 4096, PROT_READ);
          if (attempt(code, end - size) != 0) size |= 128;
          mprotect(pages, 4096, PROT_READ | PROT_WRITE);
        }
        putchar(size);
      }
      for (int modrm = 0xc0; modrm <= 0xff; modrm++) {
        assemble(code, opcode, modrm, prefix);
        putchar(attempt(code, pages) != SIGILL);
      }
    }
}

int main(int argc, char **argv) {
  uint8_t *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 3;
  if (argc == 2 && strcmp(argv[1], "table") == 0) table(code);
  else if (argc == 5 && strcmp(argv[1], "records") == 0) {
    rng_state = strtoull(argv[2], 0, 0);
    records(code, atol(argv[3]), argv[4][0] == 't' ? 1 : argv[4][0] == 'e' ? 2 : 0);
  } else return 2;
  return 0;
}
