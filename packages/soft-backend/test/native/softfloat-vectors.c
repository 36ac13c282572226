/* SSE scalar arithmetic of this CPU on biased operands, as records for softfloat.test.ts.
 * usage: softfloat-vectors SEED COUNT > records
 * record (32 bytes, little endian): op u8, 0 u8, mxcsr u16 (flags clear), flags u16, 0 u16, a u64, b u64, result u64 */
#include "vectors.h"

enum { ADD, SUB, MUL, DIV, SQRT, COMIS, UCOMIS, TO_I32, TRUNC_I32, TO_I64, TRUNC_I64, FROM_I32, FROM_I64, CONVERT, ROUND, OPS };

struct record { uint8_t op, pad; uint16_t mxcsr, flags, pad2; uint64_t a, b, result; };

#define BINARY(insn) __asm__ volatile("ldmxcsr %3\n\t" insn " %2, %0\n\tstmxcsr %1" : "+x"(x), "=m"(out) : "x"(y), "m"(in))
#define UNARY(insn) __asm__ volatile("ldmxcsr %3\n\t" insn " %2, %0\n\tstmxcsr %1" : "+x"(x), "=m"(out) : "x"(x), "m"(in))
#define COMPARE(insn) __asm__ volatile("ldmxcsr %4\n\t" insn " %3, %2\n\tpushfq\n\tpop %0\n\tstmxcsr %1" \
  : "=&r"(r), "=m"(out) : "x"(x), "x"(y), "m"(in) : "cc")
#define TO_INT(insn, suffix) __asm__ volatile("ldmxcsr %3\n\t" insn " %2, %" suffix "0\n\tstmxcsr %1" : "=&r"(r), "=m"(out) : "x"(x), "m"(in))
#define FROM_INT(insn) __asm__ volatile("ldmxcsr %3\n\t" insn " %2, %0\n\tstmxcsr %1" : "+x"(x), "=m"(out) : "r"(a), "m"(in))

typedef double v2 __attribute__((vector_size(16)));

static uint64_t run(int op, int single, uint64_t a, uint64_t b, uint32_t in, uint32_t *flags) {
  v2 x, y; uint32_t out = 0; uint64_t r = 0, v[2] = {a, 0}; int fromVector = 1;
  memcpy(&x, v, 16); v[0] = b; memcpy(&y, v, 16);
  switch (op | single << 4) {
    case ADD: BINARY("addsd"); break;
    case SUB: BINARY("subsd"); break;
    case MUL: BINARY("mulsd"); break;
    case DIV: BINARY("divsd"); break;
    case SQRT: UNARY("sqrtsd"); break;
    case COMIS: COMPARE("comisd"); fromVector = 0; r &= 0x45; break;
    case UCOMIS: COMPARE("ucomisd"); fromVector = 0; r &= 0x45; break;
    case TO_I32: TO_INT("cvtsd2si", "k"); fromVector = 0; break;
    case TRUNC_I32: TO_INT("cvttsd2si", "k"); fromVector = 0; break;
    case TO_I64: TO_INT("cvtsd2si", "q"); fromVector = 0; break;
    case TRUNC_I64: TO_INT("cvttsd2si", "q"); fromVector = 0; break;
    case FROM_I32: FROM_INT("cvtsi2sdl %k2, %0 #"); break;
    case FROM_I64: FROM_INT("cvtsi2sdq"); break;
    case CONVERT: UNARY("cvtsd2ss"); break;
    case ROUND: UNARY("roundsd $4,"); break;
    case ADD | 16: BINARY("addss"); break;
    case SUB | 16: BINARY("subss"); break;
    case MUL | 16: BINARY("mulss"); break;
    case DIV | 16: BINARY("divss"); break;
    case SQRT | 16: UNARY("sqrtss"); break;
    case COMIS | 16: COMPARE("comiss"); fromVector = 0; r &= 0x45; break;
    case UCOMIS | 16: COMPARE("ucomiss"); fromVector = 0; r &= 0x45; break;
    case TO_I32 | 16: TO_INT("cvtss2si", "k"); fromVector = 0; break;
    case TRUNC_I32 | 16: TO_INT("cvttss2si", "k"); fromVector = 0; break;
    case TO_I64 | 16: TO_INT("cvtss2si", "q"); fromVector = 0; break;
    case TRUNC_I64 | 16: TO_INT("cvttss2si", "q"); fromVector = 0; break;
    case FROM_I32 | 16: FROM_INT("cvtsi2ssl %k2, %0 #"); break;
    case FROM_I64 | 16: FROM_INT("cvtsi2ssq"); break;
    case CONVERT | 16: UNARY("cvtss2sd"); break;
    case ROUND | 16: UNARY("roundss $4,"); break;
  }
  *flags = out & 0x3f;
  if (!fromVector) return r;
  memcpy(v, &x, 16);
  return (single ? op != CONVERT : op == CONVERT) ? (uint32_t)v[0] : v[0];
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  rng_state = strtoull(argv[1], 0, 0);
  for (long n = atol(argv[2]); n > 0; n--) {
    struct record t = {0};
    int single = below(2);
    uint32_t flags, old;
    t.op = below(OPS);
    t.mxcsr = 0x1f80 | below(4) << 13 | (below(5) == 0 ? 0x8000 : 0) | (below(5) == 0 ? 0x40 : 0);
    t.a = single ? operand32() : operand64();
    t.b = single ? operand32() : operand64();
    if (t.op <= DIV && below(6) == 0) t.b = t.a ^ (rng() & 0x3);
    if (t.op == FROM_I32) t.a = (uint32_t)fraction(32);
    if (t.op == FROM_I64) t.a = fraction(64);
    __asm__ volatile("stmxcsr %0" : "=m"(old));
    t.result = run(t.op, single, t.a, t.b, t.mxcsr, &flags);
    __asm__ volatile("ldmxcsr %0" : : "m"(old));
    t.flags = flags;
    t.op |= single << 4;
    fwrite(&t, sizeof t, 1, stdout);
  }
  return 0;
}
