/*
 * Batches of datagrams on non-blocking sockets. Each function returns a count or a negative errno.
 */
#ifndef TUNGATE_DATAGRAM_LINUX_H
#define TUNGATE_DATAGRAM_LINUX_H

#include <stdint.h>

#include "memory.h"

/** What the way to the upstream takes of UDP_SEGMENT: learned from what it refuses, so that it is not asked each time. */
struct segmenting {
  /** Datagrams of so many bytes and more leave one by one; 0: no limit is known. */
  uint32_t refused_bytes;
  /** Datagrams until it is tried again: a way may change. */
  uint32_t retry_after;
};

/** See Io.recvDatagrams and Io.sendDatagrams. */
int datagram_receive(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
                     uint32_t found);
int datagram_send(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                  struct segmenting *segmenting);

/** See Io.recvDatagramsFrom and Io.sendDatagramsTo. */
int datagram_receive_from(const struct memory *memory, int fd, uint32_t slots, uint32_t count, uint32_t slot_bytes,
                          uint32_t found);
int datagram_send_to(const struct memory *memory, int fd, uint32_t datagrams, uint32_t iovecs, uint32_t count,
                     struct segmenting *segmenting);

#endif
