/*
 * Non-blocking sockets towards the upstream. Each function returns 0, a descriptor or a count, or a negative errno.
 */
#ifndef TUNGATE_SOCKET_LINUX_H
#define TUNGATE_SOCKET_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

int socket_connect_tcp(const struct destination *to);
int socket_connect_udp(const struct destination *to);
/** `length` bytes of path; a leading NUL: the abstract namespace (unix(7)). */
int socket_connect_unix(const char *path, size_t length);

/** Takes SO_ERROR. */
int socket_error(int fd);
int socket_shutdown_write(int fd);
/** Makes the close() to come an abort: TCP sends RST (SO_LINGER with 0 seconds). */
void socket_reset_on_close(int fd);

/** See Io.readv and Io.writev. */
int socket_read(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count);
int socket_write(const struct memory *memory, int fd, uint32_t iovecs, uint32_t count);

/** What the way to the upstream takes of UDP_SEGMENT: learned from what it refuses, so that it is not asked each time. */
struct segmenting {
  /** Datagrams of so many bytes and more leave one by one; 0: no limit is known. */
  uint32_t refused_bytes;
  /** Datagrams until it is tried again: a way may change. */
  uint32_t retry_after;
};

/** See Io.recvDatagrams and Io.sendDatagrams. */
int socket_receive(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
                   uint32_t found);
int socket_send(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                struct segmenting *segmenting);

#endif
