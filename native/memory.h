/*
 * The linear memory, and the tables of u32 in it: iovecs `{offset, length}`, slots `{offset, length}`, messages
 * `{first iovec, number of iovecs, unused}`. Nothing outside the memory is ever handed to the kernel.
 */
#ifndef TUNGATE_MEMORY_H
#define TUNGATE_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/** The kernel's UIO_MAXIOV: more in one call is EINVAL. */
#define IOVECS_MAX 1024
/** Datagrams per recvmmsg() or sendmmsg(). */
#define DATAGRAMS_MAX 64

struct memory {
  uint8_t *base;
  size_t length;
};

/** A table of `rows` rows of `row_words` u32 at byte `offset`; NULL when it is unaligned or not inside the memory. */
uint32_t *memory_table(const struct memory *memory, uint32_t offset, uint32_t rows, uint32_t row_words);

/** A landing place of `bytes` bytes; NULL when it is not inside the memory. */
void *memory_span(const struct memory *memory, uint32_t offset, uint32_t bytes);

/** Translates `count` (at most IOVECS_MAX) iovec rows. 0, or -EFAULT when one points out of the memory. */
int memory_iovecs(const struct memory *memory, const uint32_t *rows, uint32_t count, struct iovec *out);

/** Gives the whole pages inside `count` iovec rows back to the kernel. 0, -EFAULT, or another negative errno. */
int memory_discard(const struct memory *memory, uint32_t iovecs, uint32_t count);

/**
 * Translates the iovecs of one message row into `out`, which has room for `room`. Returns how many.
 * -EINVAL: more than `room`. -EFAULT: the iovec table or what it names is not inside the memory.
 */
int memory_message(const struct memory *memory, const uint32_t *message, uint32_t iovecs, struct iovec *out,
                   uint32_t room);

#endif
