/*
 * The first program of the test kernel: says what it finds of the machine, and restarts it. Freestanding, and without
 * SSE, which a kernel emulated by KVM cannot be trusted to switch.
 */
enum { READ = 0, WRITE = 1, OPEN = 2, MOUNT = 165, REBOOT = 169 };

static long call(long number, long a, long b, long c, long d, long e) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

static void write_bytes(const char *bytes, long count) { call(WRITE, 1, (long)bytes, count, 0, 0); }

static void say(const char *text) {
  long count = 0;
  while (text[count]) count++;
  write_bytes(text, count);
}

/** Shows at most so many bytes of a file. */
static void show(const char *path, long most) {
  static char bytes[4096];
  say("== ");
  say(path);
  say("\n");
  long fd = call(OPEN, (long)path, 0, 0, 0, 0);
  for (long count; fd >= 0 && most > 0; most -= count) {
    count = call(READ, fd, (long)bytes, most < (long)sizeof bytes ? most : (long)sizeof bytes, 0, 0);
    if (count <= 0) break;
    write_bytes(bytes, count);
  }
  say("\n");
}

void _start(void) {
  const long everything = 1 << 20, restart = 0x01234567;
  say("INIT: hello from userspace\n");
  call(MOUNT, (long)"proc", (long)"/proc", (long)"proc", 0, 0);
  call(MOUNT, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
  show("/proc/uptime", everything);
  show("/proc/partitions", everything);
  show("/proc/net/dev", everything);
  show("/dev/vda", 32);
  show("/proc/interrupts", everything);
  say("INIT: done\n");
  call(REBOOT, (long)0xfee1dead, 0x28121969, restart, 0, 0);
  for (;;) __asm__ volatile("pause");
}
