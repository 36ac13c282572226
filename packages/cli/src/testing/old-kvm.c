/* LD_PRELOAD: a KVM that lacks one capability, asked for by who looks up ioctl() in libc, as koffi does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <string.h>

typedef void *lookup(void *library, const char *name);
static int (*ioctl_of_libc)(int fd, unsigned long request, unsigned long argument);

static int old_ioctl(int fd, unsigned long request, unsigned long argument) {
  if (request == KVM_CHECK_EXTENSION && argument == KVM_CAP_IMMEDIATE_EXIT) return 0;
  return ioctl_of_libc(fd, request, argument);
}

void *dlsym(void *library, const char *name) {
  lookup *real = (lookup *)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  if (real == NULL) real = (lookup *)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  void *found = real(library, name);
  if (strcmp(name, "ioctl") != 0) return found;
  ioctl_of_libc = (int (*)(int, unsigned long, unsigned long))found;
  return (void *)old_ioctl;
}
