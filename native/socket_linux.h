/*
 * Non-blocking sockets towards the upstream. Each function returns 0, a descriptor or a count, or a negative errno.
 */
#ifndef TUNGATE_SOCKET_LINUX_H
#define TUNGATE_SOCKET_LINUX_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "memory.h"

struct destination {
  /** 4 or 16 bytes, network order. */
  const uint8_t *address;
  size_t address_bytes;
  /** 0 to 65535. */
  uint32_t port;
  /** SO_MARK; 0: none. */
  uint32_t mark;
  /** SO_BINDTODEVICE; "": none. */
  const char *device;
};

union socket_address {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
};

/** Returns the length of the socket address, 0 when the destination is none. */
socklen_t socket_address(const struct destination *to, union socket_address *out);

int socket_connect_tcp(const struct destination *to);
int socket_connect_udp(const struct destination *to);
/** `length` bytes of path; a leading NUL: the abstract namespace (unix(7)). */
int socket_connect_unix(const char *path, size_t length);
/** A UDP socket that hears everybody; `family` 4 or 6, which hears IPv6 alone. */
int socket_open_udp(uint32_t family, uint32_t mark, const char *device);
/** Two streams, connected to each other. */
int socket_pair(int fds[2]);

/** Takes SO_ERROR. */
int socket_error(int fd);
/** Its own port, 0 while it has none, and its address into `address`, of 4 or 16 bytes by its family: -EINVAL for another `size`. */
int socket_local_endpoint(int fd, void *address, size_t size);
int socket_shutdown_write(int fd);
/** Makes the close() to come an abort: TCP sends RST (SO_LINGER with 0 seconds). */
void socket_reset_on_close(int fd);

/** See Io.readv and Io.writev. */
int socket_read(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count);
int socket_write(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count);

/** The same with one piece of any memory. */
int socket_read_bytes(int fd, void *bytes, size_t length);
int socket_write_bytes(int fd, void *bytes, size_t length);

#endif
