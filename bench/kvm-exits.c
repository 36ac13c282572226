/* What KVM itself takes: a guest that does nothing but OUT, its exits counted by a loop in C; then one that does
   nothing, interrupted from another thread, which waits as the backend does: it looks for a while and sleeps then, and
   after looking in vain it sleeps at once 16 times. Prints nanoseconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static int need(int result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

enum { MACHINE, GUEST };
static atomic_int turn;
static int vcpu;

static void nothing(int signal) { (void)signal; }

static void hand_over(int to) {
  atomic_store(&turn, to);
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void await(int whose) {
  while (atomic_load(&turn) != whose) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !whose, NULL, NULL, 0);
}

/* Some 40 microseconds. */
static int is_back_soon(void) {
  static int calm = 0;
  if (calm > 0) return calm--, 0;
  for (uint64_t until = now() + 40000; now() < until;)
    if (atomic_load(&turn) == MACHINE) return 1;
  calm = 16;
  return 0;
}

static void pin(pthread_t thread, int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(thread, sizeof set, &set);
}

static void *run_guest(void *unused) {
  (void)unused;
  for (;;) {
    await(GUEST);
    ioctl(vcpu, KVM_RUN, 0);
    hand_over(MACHINE);
  }
}

static uint64_t kick(struct kvm_run *run, pthread_t thread) {
  enum { KICKS = 200 };
  static uint64_t took[KICKS];
  for (int i = 0; i < KICKS; i++) {
    run->immediate_exit = 0;
    hand_over(GUEST);
    usleep(1000);
    uint64_t at = now();
    run->immediate_exit = 1;
    pthread_kill(thread, SIGRTMIN + 6);
    if (!is_back_soon()) await(MACHINE);
    took[i] = now() - at;
  }
  qsort(took, KICKS, sizeof *took, ascending);
  return took[KICKS / 2];
}

/* Where the kernel puts the two threads, on two processors, and on one. */
static void kicks(struct kvm_run *run, uint8_t *ram) {
  struct sigaction action = {.sa_handler = nothing};
  sigaction(SIGRTMIN + 6, &action, NULL);
  memcpy(ram + 0x1000, "\xeb\xfe\xeb\xfc", 4); /* JMP to itself, whichever of the two it was in */
  pthread_t thread;
  pthread_create(&thread, NULL, run_guest, NULL);
  printf(", \"kickNs\": %llu", (unsigned long long)kick(run, thread));
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof allowed, &allowed);
  int first = 0, last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(first, &allowed)) first++;
  while (!CPU_ISSET(last, &allowed)) last--;
  pin(pthread_self(), first);
  pin(thread, last);
  if (first != last) printf(", \"kickAcrossNs\": %llu", (unsigned long long)kick(run, thread));
  pin(thread, first);
  printf(", \"kickSharingNs\": %llu", (unsigned long long)kick(run, thread));
}

int main(int argc, char **argv) {
  int exits = argc > 1 ? atoi(argv[1]) : 20000;
  uint64_t began = now();
  int kvm = need(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  int vm = need(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  need(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
  need(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  uint8_t *ram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  /* OUT 0E0h, AL; JMP to it. */
  memcpy(ram + 0x1000, "\xe6\xe0\xeb\xfc", 4);
  struct kvm_userspace_memory_region slot = {.memory_size = 0x10000, .userspace_addr = (uint64_t)(uintptr_t)ram};
  need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
  vcpu = need(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  int bytes = need(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  struct kvm_run *run = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  struct kvm_sregs sregs;
  need(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  need(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
  need(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
  uint64_t *took = calloc(exits, sizeof *took);
  uint64_t first = 0, last = 0;
  for (int i = 0; i < exits; i++) {
    need(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
    if (run->exit_reason != KVM_EXIT_IO) return 1;
    uint64_t at = now();
    if (i == 0) first = at - began;
    else took[i] = at - last;
    last = at;
  }
  qsort(took, exits, sizeof *took, ascending);
  printf("{\"exitNs\": %llu, \"createToFirstExitNs\": %llu", (unsigned long long)took[exits / 2],
         (unsigned long long)first);
  kicks(run, ram);
  printf("}\n");
  return 0;
}
