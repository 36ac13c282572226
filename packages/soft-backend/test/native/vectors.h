/* Biased operands for the floating-point vector generators: specials, neighbours of powers of two, ties, near-equals. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t rng_state;

static uint64_t rng(void) { /* splitmix64 */
  uint64_t z = rng_state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

static uint32_t below(uint32_t n) { return (uint32_t)((rng() >> 32) * n >> 32); }

/* A fraction of `bits` bits, often with long runs, so that ties and carries come up. */
static uint64_t fraction(int bits) {
  uint64_t mask = bits == 64 ? ~0ull : (1ull << bits) - 1, r = rng();
  switch (below(8)) {
    case 0: return 0;
    case 1: return mask;
    case 2: return 1ull << below(bits);
    case 3: return mask << below(bits) & mask;
    case 4: return mask >> below(bits);
    case 5: return (r & 0xff) << below(bits) & mask;
    default: return r & mask;
  }
}

static uint64_t operand64(void) {
  uint64_t sign = rng() << 63, f = fraction(52);
  switch (below(12)) {
    case 0: return sign;
    case 1: return sign | 0x7ff0000000000000ull;
    case 2: return sign | 0x7ff0000000000000ull | f;
    case 3: return sign | f;
    case 4: return sign | (uint64_t)(1 + below(60)) << 52 | f;
    case 5: return sign | (uint64_t)(2046 - below(60)) << 52 | f;
    case 6: return sign | (uint64_t)(1023 - 127 - 30 + below(40)) << 52 | f;
    case 7: return sign | (uint64_t)(1023 + 120 + below(10)) << 52 | f;
    case 8: return sign | (uint64_t)(1023 - 3 + below(70)) << 52 | f;
    case 9: return sign | (uint64_t)below(2047) << 52 | f;
    default: return sign | (uint64_t)(1023 - 4 + below(8)) << 52 | f;
  }
}

static uint32_t operand32(void) {
  uint32_t sign = (uint32_t)(rng() << 31), f = (uint32_t)fraction(23);
  switch (below(10)) {
    case 0: return sign;
    case 1: return sign | 0x7f800000u;
    case 2: return sign | 0x7f800000u | f;
    case 3: return sign | f;
    case 4: return sign | (1 + below(30)) << 23 | f;
    case 5: return sign | (254 - below(30)) << 23 | f;
    case 6: return sign | (127 - 3 + below(70)) << 23 | f;
    case 7: return sign | below(255) << 23 | f;
    default: return sign | (127 - 4 + below(8)) << 23 | f;
  }
}
