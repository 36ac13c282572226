/* disk-io DEVICE: times reads and writes that bypass the guest's page cache; one line a test, MiB/s and requests/s. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void test(int fd, const char *name, int is_write, int is_random, size_t size, int count, off_t span) {
  static uint32_t seed = 1;
  void *buffer;
  if (posix_memalign(&buffer, 4096, size) != 0) exit(1);
  for (size_t i = 0; i < size; i++) ((unsigned char *)buffer)[i] = i * 31;
  double start = now();
  for (int i = 0; i < count; i++) {
    seed = seed * 1103515245u + 12345u;
    off_t block = is_random ? (off_t)(seed >> 4) % (span / size) : (off_t)i % (span / size);
    ssize_t done = is_write ? pwrite(fd, buffer, size, block * size) : pread(fd, buffer, size, block * size);
    if (done != (ssize_t)size) {
      perror(name);
      exit(1);
    }
  }
  if (is_write) fdatasync(fd);
  double seconds = now() - start;
  printf("RESULT %s %.1f %.0f\n", name, size * (double)count / seconds / 1048576, count / seconds);
  free(buffer);
}

int main(int argc, char **argv) {
  int fd = open(argc > 1 ? argv[1] : "/dev/vda", O_RDWR | O_DIRECT);
  if (fd < 0) {
    perror("open");
    return 1;
  }
  off_t span = lseek(fd, 0, SEEK_END);
  for (int round = 0; round < 2; round++) { /* the first one warms up what translates code */
    test(fd, "sequential-read-1M", 0, 0, 1 << 20, 256, span);
    test(fd, "sequential-write-1M", 1, 0, 1 << 20, 256, span);
    test(fd, "sequential-read-4K", 0, 0, 4096, 4000, span);
    test(fd, "random-read-4K", 0, 1, 4096, 4000, span);
    test(fd, "random-write-4K", 1, 1, 4096, 4000, span);
  }
  return 0;
}
