/*
 * Counts the system calls of native/tungate.node, for the tests. Loaded with LD_PRELOAD it stands in front of the C
 * library's wrappers; a call counts when the code that made it lies in the addon, so those of Node are left out.
 *
 * The counts are rows of {name, count} in the file that COST_SYSTEM_CALLS names, shared with whoever reads it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct row {
  char name[24];
  uint64_t count;
};

enum { ROWS = 64 };

static struct row *rows;
static unsigned used;

__attribute__((constructor)) static void open_rows(void) {
  const char *file = getenv("COST_SYSTEM_CALLS");
  int fd = file == NULL ? -1 : open(file, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *at = mmap(NULL, ROWS * sizeof *rows, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (at != MAP_FAILED) rows = at;
}

/* Where the addon lies; it is loaded some time after this. */
static uintptr_t addon_from, addon_to;

static int find_addon(struct dl_phdr_info *object, size_t size, void *unused) {
  (void)size, (void)unused;
  if (strstr(object->dlpi_name, "tungate.node") == NULL) return 0;
  for (int at = 0; at < object->dlpi_phnum; at++) {
    const ElfW(Phdr) *part = &object->dlpi_phdr[at];
    if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
    addon_from = object->dlpi_addr + part->p_vaddr;
    addon_to = addon_from + part->p_memsz;
  }
  return 1;
}

static int is_addon(const void *code) {
  if (addon_to == 0) dl_iterate_phdr(find_addon, NULL);
  return (uintptr_t)code >= addon_from && (uintptr_t)code < addon_to;
}

/* `row`: the wrapper's own memory of where its name stands. */
static void count(struct row **row, const char *name, const void *caller) {
  if (rows == NULL || !is_addon(caller)) return;
  if (*row == NULL) {
    if (used == ROWS) abort();
    *row = &rows[used++];
    strncpy((*row)->name, name, sizeof (*row)->name - 1);
  }
  (*row)->count++;
}

#define WRAP(type, name, parameters, arguments)                    \
  type name parameters {                                           \
    static type(*real) parameters;                                 \
    static struct row *row;                                        \
    if (real == NULL) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    count(&row, #name, __builtin_return_address(0));               \
    return real arguments;                                         \
  }

WRAP(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size))
WRAP(ssize_t, readv, (int fd, const struct iovec *to, int pieces), (fd, to, pieces))
WRAP(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size))
WRAP(ssize_t, writev, (int fd, const struct iovec *from, int pieces), (fd, from, pieces))
WRAP(ssize_t, send, (int fd, const void *from, size_t size, int flags), (fd, from, size, flags))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned number, int flags), (fd, messages, number, flags))
WRAP(ssize_t, recv, (int fd, void *to, size_t size, int flags), (fd, to, size, flags))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned number, int flags, struct timespec *limit),
     (fd, messages, number, flags, limit))
WRAP(int, epoll_wait, (int fd, struct epoll_event *events, int room, int timeout), (fd, events, room, timeout))
WRAP(int, epoll_ctl, (int fd, int what, int on, struct epoll_event *event), (fd, what, on, event))
WRAP(int, poll, (struct pollfd *on, nfds_t number, int timeout), (on, number, timeout))
WRAP(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size), (fd, level, name, value, size))
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size), (fd, level, name, value, size))
WRAP(int, getsockname, (int fd, struct sockaddr *name, socklen_t *size), (fd, name, size))
WRAP(int, shutdown, (int fd, int how), (fd, how))
WRAP(int, close, (int fd), (fd))
WRAP(int, madvise, (void *from, size_t size, int advice), (from, size, advice))

/* All that ask with a third argument give one word. */
#define WRAP_VARIADIC(name, request_type)                                     \
  int name(int fd, request_type request, ...) {                               \
    static int (*real)(int, request_type, ...);                               \
    static struct row *row;                                                   \
    va_list more;                                                             \
    va_start(more, request);                                                  \
    void *argument = va_arg(more, void *);                                    \
    va_end(more);                                                             \
    if (real == NULL) real = (int (*)(int, request_type, ...))dlsym(RTLD_NEXT, #name); \
    count(&row, #name, __builtin_return_address(0));                          \
    return real(fd, request, argument);                                       \
  }

WRAP_VARIADIC(fcntl, int)
WRAP_VARIADIC(ioctl, unsigned long)
