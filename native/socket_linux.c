#include "socket_linux.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/** A burst of datagrams that waits for one turn of the event loop; the kernel grants net.core.[rw]mem_max at least. */
#define UDP_BUFFER_BYTES (4 << 20)

socklen_t socket_address(const struct destination *to, union socket_address *out) {
  memset(out, 0, sizeof *out);
  if (to->port > UINT16_MAX) return 0;
  if (to->address_bytes == 4) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)to->port);
    memcpy(&out->v4.sin_addr, to->address, 4);
    return sizeof out->v4;
  }
  if (to->address_bytes != 16) return 0;
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons((uint16_t)to->port);
  memcpy(&out->v6.sin6_addr, to->address, 16);
  return sizeof out->v6;
}

static int set_int(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value);
}

/** Who may not force it past the limit gets the limit. */
static void set_buffer(int fd, int forced, int plain) {
  if (set_int(fd, SOL_SOCKET, forced, UDP_BUFFER_BYTES) < 0) set_int(fd, SOL_SOCKET, plain, UDP_BUFFER_BYTES);
}

/** The way out must be chosen before connect(), which looks up the route. */
static int set_way(int fd, const struct destination *to) {
  if (to->mark != 0 && set_int(fd, SOL_SOCKET, SO_MARK, (int)to->mark) < 0) return -1;
  if (to->device[0] == 0) return 0;
  return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, to->device, (socklen_t)strlen(to->device));
}

static int set_stream(int fd) {
  if (set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0) return -1;
  return set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static int set_buffers(int fd) {
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  return 0;
}

static int set_datagram(int fd) {
  set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* a kernel without it gives datagrams one by one */
  return set_buffers(fd);
}

static int connect_ip(const struct destination *to, int type, int (*prepare)(int fd)) {
  union socket_address address;
  socklen_t length = socket_address(to, &address);
  if (length == 0) return -EINVAL;
  int fd = socket(address.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (prepare(fd) == 0 && set_way(fd, to) == 0) {
    if (connect(fd, &address.any, length) == 0 || errno == EINPROGRESS) return fd;
  }
  int error = errno;
  close(fd);
  return -error;
}

int socket_connect_tcp(const struct destination *to) { return connect_ip(to, SOCK_STREAM, set_stream); }

int socket_connect_udp(const struct destination *to) { return connect_ip(to, SOCK_DGRAM, set_datagram); }

int socket_open_udp(uint32_t family, uint32_t mark, const char *device) {
  if (family != 4 && family != 6) return -EINVAL;
  int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct destination way = {.mark = mark, .device = device};
  bool own = family == 4 || set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0;
  if (own && set_buffers(fd) == 0 && set_way(fd, &way) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int socket_pair(int fds[2]) {
  return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

int socket_connect_unix(const char *path, size_t length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (length == 0) return -EINVAL;
  size_t end = path[0] == 0 ? 0 : 1;
  if (length + end > sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  size_t bytes = offsetof(struct sockaddr_un, sun_path) + length + end;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (const struct sockaddr *)&address, (socklen_t)bytes) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}

int socket_local_endpoint(int fd, void *address, size_t size) {
  struct sockaddr_storage name;
  socklen_t length = sizeof name;
  if (getsockname(fd, (struct sockaddr *)&name, &length) < 0) return -errno;
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&name;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&name;
  if (name.ss_family == AF_INET && size == sizeof v4->sin_addr) {
    memcpy(address, &v4->sin_addr, size);
    return ntohs(v4->sin_port);
  }
  if (name.ss_family == AF_INET6 && size == sizeof v6->sin6_addr) {
    memcpy(address, &v6->sin6_addr, size);
    return ntohs(v6->sin6_port);
  }
  return -EINVAL;
}

int socket_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

void socket_reset_on_close(int fd) {
  struct linger linger = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/** A stream may be given less than asked for: what is over the kernel's limit waits for the next call. */
static int stream_iovecs(const struct memory *memory, uint32_t iovecs, uint32_t *count, struct iovec *list) {
  if (*count > IOVECS_MAX) *count = IOVECS_MAX;
  const uint32_t *rows = memory_table(memory, iovecs, *count, 2);
  return rows == NULL ? -EFAULT : memory_iovecs(memory, rows, *count, list);
}

int socket_read(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count) {
  struct iovec list[IOVECS_MAX];
  int error = stream_iovecs(memory, iovecs, &count, list);
  if (error < 0) return error;
  ssize_t bytes = readv(fd, list, (int)count);
  return bytes < 0 ? -errno : (int)bytes;
}

int socket_write(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count) {
  struct iovec list[IOVECS_MAX];
  int error = stream_iovecs(memory, iovecs, &count, list);
  if (error < 0) return error;
  struct msghdr message = {.msg_iov = list, .msg_iovlen = count};
  ssize_t bytes = sendmsg(fd, &message, MSG_NOSIGNAL);
  return bytes < 0 ? -errno : (int)bytes;
}

int socket_read_bytes(int fd, void *bytes, size_t length) {
  ssize_t got = read(fd, bytes, length);
  return got < 0 ? -errno : (int)got;
}

int socket_write_bytes(int fd, void *bytes, size_t length) {
  ssize_t taken = send(fd, bytes, length, MSG_NOSIGNAL);
  return taken < 0 ? -errno : (int)taken;
}
