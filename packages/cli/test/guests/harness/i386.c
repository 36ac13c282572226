/*
 * What only 32-bit programs do, as far as Linux lets them: instructions that 64-bit mode has not, the x87, INT 80h and
 * SYSENTER, thread-local storage by a GDT entry, signals, and a jump into 64-bit code and back. Every line is a name and
 * a checksum of results, to be compared with another processor's. No C library: plain gcc builds it with -m32 -nostdlib.
 */
typedef unsigned int u32;
typedef unsigned char u8;
typedef unsigned long long u64;

#define CF 0x001
#define PF 0x004
#define AF 0x010
#define ZF 0x040
#define SF 0x080
#define OF 0x800

static u32 sum;

static void fold(u32 value) { sum = (sum ^ value) * 16777619u + 0x9e37u; }

static int call3(int number, u32 a, u32 b, u32 c) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
  return result;
}

void *memset(void *to, int byte, u32 length) {
  void *end = to;
  __asm__ volatile("rep stosb" : "+D"(end), "+c"(length) : "a"(byte) : "memory");
  return to;
}

void *memcpy(void *to, const void *from, u32 length) {
  void *end = to;
  __asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(length) : : "memory");
  return to;
}

static void report(const char *name) {
  char line[64];
  u32 at = 0;
  while (name[at]) {
    line[at] = name[at];
    at++;
  }
  line[at++] = ' ';
  for (int shift = 28; shift >= 0; shift -= 4) line[at++] = "0123456789abcdef"[(sum >> shift) & 15];
  line[at++] = '\n';
  call3(4, 1, (u32)line, at);
  sum = 2166136261u;
}

/* One instruction on AX with the flags as given; folds AX and the flags that are defined. */
#define ON_AX(text, defined)                                                                        \
  for (u32 ax = 0; ax < 0x10000; ax += 7)                                                           \
    for (u32 in = 0; in < 4; in++) {                                                                \
      u32 value = ax, flags = 2 | (in & 1 ? CF : 0) | (in & 2 ? AF : 0);                            \
      __asm__ volatile("push %1\n popf\n" text "\n pushf\n pop %1" : "+a"(value), "+r"(flags) : : "cc"); \
      fold(value);                                                                                  \
      fold(flags & (defined));                                                                      \
    }

static void decimal(void) {
  ON_AX("aaa", CF | AF)
  report("aaa");
  ON_AX("aas", CF | AF)
  report("aas");
  ON_AX("daa", CF | PF | AF | ZF | SF)
  report("daa");
  ON_AX("das", CF | PF | AF | ZF | SF)
  report("das");
  ON_AX("aam", PF | ZF | SF)
  report("aam");
  ON_AX("aam $7", PF | ZF | SF)
  report("aam 7");
  ON_AX("aad", PF | ZF | SF)
  report("aad");
  ON_AX("aad $200", PF | ZF | SF)
  report("aad 200");
  ON_AX(".byte 0xd6", CF | AF)
  report("salc");
}

/* Encodings that 64-bit mode took away or changed. */
static void encodings(void) {
  for (u32 i = 0; i < 1000; i++) {
    u32 a = i * 2654435761u, b = i * 40503u + 1, flags;
    __asm__ volatile(".byte 0x40\n pushf\n pop %1" : "+a"(a), "=r"(flags) : : "cc"); /* inc eax */
    fold(a);
    fold(flags & (PF | AF | ZF | SF | OF));
    __asm__ volatile(".byte 0x48\n pushf\n pop %1" : "+a"(b), "=r"(flags) : : "cc"); /* dec eax */
    fold(b);
    fold(flags & (PF | AF | ZF | SF | OF));
    u32 all[8];
    __asm__ volatile("pusha\n movl (%%esp), %%ecx\n movl 28(%%esp), %%edx\n movl %%ecx, (%1)\n movl %%edx, 4(%1)\n popa"
                     : : "a"(a), "D"(all) : "memory", "ecx", "edx");
    fold(all[1]);
    u32 far[2] = {b, 0x2b}, loaded, selector;
    __asm__ volatile("push %%es\n les (%2), %0\n mov %%es, %1\n pop %%es" : "=&r"(loaded), "=&r"(selector) : "r"(far));
    fold(loaded);
    fold(selector & 0xffff);
    u32 bounds[2] = {0, 1000};
    __asm__ volatile("bound %0, (%1)" : : "r"(i), "r"(bounds));
    u32 destination = (a & 0xfffc) | (i & 3), source = (i >> 2) & 3;
    __asm__ volatile("arpl %w2, %w0\n pushf\n pop %1" : "+r"(destination), "=r"(flags) : "r"(source) : "cc");
    fold(destination);
    fold(flags & ZF);
  }
  report("encodings");
  u32 esp, kept;
  __asm__ volatile("mov %%esp, %1\n push %%ebp\n mov %%esp, %%ebp\n enter $32, $3\n mov %%esp, %0\n leave\n"
                   " pop %%ebp\n sub %1, %0"
                   : "=&r"(esp), "=&r"(kept) : : "memory");
  fold(esp);
  /* 16-bit addressing wraps at 64 KiB and uses other registers. */
  u32 effective;
  for (u32 i = 0; i < 4096; i++) {
    __asm__ volatile("mov %1, %%ebx\n mov %2, %%esi\n addr16 lea 0x1234(%%bx,%%si), %0"
                     : "=r"(effective) : "r"(i * 77777u), "r"(i * 31337u) : "ebx", "esi");
    fold(effective);
  }
  report("enter, addr16");
}

/* The x87 in all its precisions; SSE beside it. */
static void floating(void) {
  long double t = 1.0L;
  double d = 1.0;
  float f = 1.0f;
  for (int i = 1; i < 20000; i++) {
    {
      unsigned short control = (unsigned short)(0x007f | ((i % 4) << 10) | ((i % 3 == 0 ? 0 : i % 3 + 1) << 8));
      __asm__ volatile("fldcw %0" : : "m"(control));
    }
    t = t * 1.0000123L + (long double)i / 3.0L;
    d = d / 1.000071 - (double)i * 0.1;
    f = f * 0.999f + (float)i;
    long double root;
    __asm__ volatile("fsqrt" : "=t"(root) : "0"(t < 0 ? -t : t));
    t += root;
    u8 bytes[10];
    memcpy(bytes, &t, 10);
    for (int k = 0; k < 10; k++) fold(bytes[k]);
    u64 bits;
    memcpy(&bits, &d, 8);
    fold((u32)bits);
    fold((u32)(bits >> 32));
    u32 single;
    memcpy(&single, &f, 4);
    fold(single);
    unsigned short status;
    __asm__ volatile("fcomi %%st(0), %%st\n fnstsw %0" : "=a"(status));
    fold(status & 0x3800);
    u8 packed[10];
    __asm__ volatile("fldt %1\n frndint\n fbstp %0" : "=m"(packed) : "m"(t));
    for (int k = 0; k < 10; k++) fold(packed[k]);
    int whole;
    __asm__ volatile("fldl %1\n fistpl %0" : "=m"(whole) : "m"(d));
    fold((u32)whole);
  }
  __asm__ volatile("fninit");
  report("x87");
}

static void integers(void) {
  u64 product = 88172645463325252ull;
  for (int i = 0; i < 200000; i++) {
    product ^= product << 13;
    product ^= product >> 7;
    product ^= product << 17;
    u32 low = (u32)product, high = (u32)(product >> 32) % 1000003u, by = (low >> 7) | 1000003u;
    u32 quotient, remainder;
    __asm__("divl %4" : "=a"(quotient), "=d"(remainder) : "a"(low), "d"(high), "r"(by) : "cc");
    fold(quotient);
    fold(remainder);
    fold((u32)((u64)low * by >> 32));
    fold((u32)((int)low >> (i & 31)));
  }
  report("64-bit integers");
}

/* SYSENTER by the kernel's own entry (AT_SYSINFO), beside INT 80h. */
static void system_calls(u32 *auxv) {
  u32 entry = 0;
  for (; auxv[0]; auxv += 2)
    if (auxv[0] == 32) entry = auxv[1];
  fold(entry != 0);
  if (entry != 0) {
    int slow = call3(20, 0, 0, 0), quick; /* getpid */
    for (int i = 0; i < 1000; i++) {
      __asm__ volatile("call *%1" : "=a"(quick) : "r"(entry), "0"(20) : "memory", "ecx", "edx");
      fold(quick == slow);
    }
  }
  report("sysenter");
}

/* struct user_desc: a segment of the GDT for this thread (set_thread_area), as 32-bit libraries have in GS. */
static void segments(void) {
  static u32 block[4] = {1, 0x1234, 0x5678, 0x9abc};
  u32 description[4] = {~0u, (u32)block, 0xfffff, 0x51}; /* 32-bit, limit in pages, usable */
  fold((u32)call3(243, (u32)description, 0, 0));
  u32 value = 0, selector = description[0] * 8 + 3;
  __asm__ volatile("mov %w1, %%gs\n mov %%gs:4, %0" : "=r"(value) : "r"(selector));
  fold(value);
  for (int i = 0; i < 100; i++) {
    call3(158, 0, 0, 0); /* sched_yield: GS lives through a switch */
    __asm__ volatile("mov %%gs:8, %0" : "=r"(value));
    fold(value);
  }
  report("gs");
}

static volatile u32 caught;

static void on_signal(int number) { caught = caught * 31 + (u32)number; }

__asm__("restore_rt:\n mov $173, %eax\n int $0x80\n");
extern void restore_rt(void);

/* Faults of 32-bit code arrive as signals, and the handlers return to where they were told to. */
static void signals(void) {
  struct {
    void (*handler)(int);
    u32 flags;
    void (*restorer)(void);
    u32 mask[2];
  } action = {on_signal, 0x04000004, restore_rt, {0, 0}}; /* SA_RESTORER, SA_SIGINFO */
  const int numbers[] = {10, 12, 5};
  for (int i = 0; i < 3; i++) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "0"(174), "b"(numbers[i]), "c"(&action), "d"(0), "S"(8) : "memory");
    fold((u32)result);
  }
  int self = call3(20, 0, 0, 0);
  for (int i = 0; i < 200; i++) call3(37, (u32)self, i & 1 ? 10 : 12, 0);
  __asm__ volatile("int3");
  __asm__ volatile("pushf\n orl $0x100, (%%esp)\n popf\n nop\n nop\n pushf\n andl $~0x100, (%%esp)\n popf" : : : "memory");
  fold(caught);
  report("signals");
}

static void children(void) {
  for (u32 i = 0; i < 20; i++) {
    int child = call3(2, 0, 0, 0);
    if (child == 0) call3(1, i * 3 & 0xff, 0, 0);
    u32 status = 0;
    call3(7, (u32)child, (u32)&status, 0);
    fold(status);
  }
  report("fork");
}

/* Through a far jump into the 64-bit segment, an instruction that only it has, and back. */
static void both_modes(void) {
  for (u32 i = 0; i < 1000; i++) {
    u32 high, low = i * 2654435761u;
    __asm__ volatile(
        "ljmp $0x33, $1f\n"
        ".code64\n"
        "1: mov %1, %%ecx\n imul $0x12345, %%rcx, %%rcx\n mov $0x1122334455667788, %%rax\n add %%rax, %%rcx\n"
        " mov %%ecx, %1\n shr $32, %%rcx\n"
        " subq $8, %%rsp\n movl $2f, (%%rsp)\n movl $0x23, 4(%%rsp)\n lretl\n"
        ".code32\n"
        "2: mov %%ecx, %0"
        : "=r"(high), "+d"(low) : : "eax", "ecx", "memory", "cc");
    fold(low);
    fold(high);
  }
  report("64-bit code");
}

__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call run\n");

void run(u32 *stack) {
  u32 *auxv = stack + 1 + stack[0] + 1;
  while (*auxv) auxv++;
  sum = 2166136261u;
  decimal();
  encodings();
  floating();
  integers();
  system_calls(auxv + 1);
  segments();
  signals();
  children();
  both_modes();
  call3(1, 0, 0, 0);
}
