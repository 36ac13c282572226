/* Prints digests of libm's results and what the rounding modes make of a few sums: guest and host must agree. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t digest = 14695981039346656037u;

static void see(const void *value, size_t size) {
  const unsigned char *bytes = value;
  for (size_t i = 0; i < size; i++) digest = (digest ^ bytes[i]) * 1099511628211u;
}

static void see_double(double value) { see(&value, 8); }
static void see_float(float value) { see(&value, 4); }
static void see_long_double(long double value) { see(&value, 10); }

int main(void) {
  double x = 0.37;
  float f = 0.37f;
  long double l = 0.37L;
  for (int i = 1; i < 4000; i++) {
    double y = x * i;
    double results[] = {sin(y),  cos(y),   tan(x),        exp(-x),        log(y),   pow(x + 1, 1.7), atan2(x, i),
                        sqrt(y), cbrt(y),  sinh(x),       fmod(y, 3.3),   floor(y), tgamma(x + 1),   erf(x),
                        rint(y), exp2(-x), hypot(x, 1.5), nearbyint(-y), asin(x / 10)};
    for (unsigned k = 0; k < sizeof results / sizeof *results; k++) see_double(results[k]);
    see_float(sinf(f) * 1.5f + cosf(f * i));
    see_float(powf(f, 0.3f));
    see_long_double(sqrtl(l * i) + floorl(l) - sinl(l) * expl(-l) + atanl(l));
    see_long_double((long double)(int64_t)(l * 1000) / i);
    x = fabs(x) * 1.000123 + 0.00071;
    if (x > 9) x = 0.11;
    f = f * 1.01f + 0.003f;
    if (f > 50) f = 0.2f;
    l = l * 1.003L + 0.01L;
    if (l > 900) l = 0.3L;
  }
  printf("%016llx\n", (unsigned long long)digest);
  static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  for (int m = 0; m < 4; m++) {
    fesetround(modes[m]);
    volatile double one = 1, three = 3;
    volatile long double l_one = 1, l_three = 3;
    volatile float f_one = 1, f_three = 3;
    printf("%a %La %a %g %ld\n", one / three, l_one / l_three, f_one / f_three, rint(2.5 * one), lrint(-1.5 * one));
  }
  fesetround(FE_TONEAREST);
  feclearexcept(FE_ALL_EXCEPT);
  volatile double zero = 0, one = 1;
  volatile double inf = one / zero, nan = zero / zero;
  printf("%f %d %x\n", inf, isnan(nan), (unsigned)fetestexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW));
  printf("%.17g %.9g %.21Lg\n", x, f, l);
  return 0;
}
