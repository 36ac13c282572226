// Joins standard input and output to a stream of AF_VSOCK: `vsock connect CID PORT`, `vsock listen PORT`.
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what) {
  perror(what);
  return 1;
}

static int copy(int from, int to) {
  static char buffer[65536];
  ssize_t got = read(from, buffer, sizeof buffer);
  for (ssize_t done = 0; done < got;) {
    ssize_t put = write(to, buffer + done, got - done);
    if (put < 0) return -1;
    done += put;
  }
  return got;
}

int main(int count, char **arguments) {
  int listens = count == 3 && strcmp(arguments[1], "listen") == 0;
  if (!listens && !(count == 4 && strcmp(arguments[1], "connect") == 0)) return 2;
  struct sockaddr_vm address = {
      .svm_family = AF_VSOCK,
      .svm_cid = listens ? VMADDR_CID_ANY : (unsigned)atoi(arguments[2]),
      .svm_port = (unsigned)atoi(arguments[listens ? 2 : 3]),
  };
  int stream = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (stream < 0) return fail("socket");
  if (listens) {
    if (bind(stream, (struct sockaddr *)&address, sizeof address) != 0) return fail("bind");
    if (listen(stream, 1) != 0) return fail("listen");
    stream = accept(stream, NULL, NULL);
    if (stream < 0) return fail("accept");
  } else if (connect(stream, (struct sockaddr *)&address, sizeof address) != 0) {
    return fail("connect");
  }
  struct pollfd ends[] = {{.fd = 0, .events = POLLIN}, {.fd = stream, .events = POLLIN}};
  while (ends[1].fd >= 0) {
    if (poll(ends, 2, -1) < 0) return fail("poll");
    if (ends[0].revents != 0) {
      int got = copy(0, stream);
      if (got < 0) return fail("send");
      if (got == 0) {
        shutdown(stream, SHUT_WR);
        ends[0].fd = -1;
      }
    }
    if (ends[1].fd >= 0 && ends[1].revents != 0) {
      int got = copy(stream, 1);
      if (got < 0) return fail("receive");
      if (got == 0) ends[1].fd = -1;
    }
  }
  return 0;
}
