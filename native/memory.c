#include "memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the tables are little-endian, as WebAssembly's memory is"
#endif

uint32_t *memory_table(const struct memory *memory, uint32_t offset, uint32_t rows, uint32_t row_words) {
  uint64_t end = offset + (uint64_t)rows * row_words * sizeof(uint32_t);
  if (offset % sizeof(uint32_t) != 0 || end > memory->length) return NULL;
  return (uint32_t *)(void *)(memory->base + offset);
}

void *memory_span(const struct memory *memory, uint32_t offset, uint32_t bytes) {
  if ((uint64_t)offset + bytes > memory->length) return NULL;
  return memory->base + offset;
}

int memory_iovecs(const struct memory *memory, const uint32_t *rows, uint32_t count, struct iovec *out) {
  for (uint32_t at = 0; at < count; at++, rows += 2) {
    void *span = memory_span(memory, rows[0], rows[1]);
    if (span == NULL) return -EFAULT;
    out[at] = (struct iovec){.iov_base = span, .iov_len = rows[1]};
  }
  return 0;
}

int memory_discard(const struct memory *memory, uint32_t iovecs, uint32_t count) {
  const uint32_t *rows = memory_table(memory, iovecs, count, 2);
  if (rows == NULL) return -EFAULT;
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (uint32_t at = 0; at < count; at++, rows += 2) {
    uint8_t *span = memory_span(memory, rows[0], rows[1]);
    if (span == NULL) return -EFAULT;
    uintptr_t from = ((uintptr_t)span + page - 1) & ~(page - 1), to = ((uintptr_t)span + rows[1]) & ~(page - 1);
    if (from < to && madvise((void *)from, to - from, MADV_DONTNEED) < 0) return -errno;
  }
  return 0;
}

int memory_message(const struct memory *memory, const uint32_t *message, uint32_t iovecs, struct iovec *out,
                   uint32_t room) {
  uint32_t count = message[1];
  if (count > room) return -EINVAL;
  uint64_t offset = iovecs + (uint64_t)message[0] * 8;
  if (offset > UINT32_MAX) return -EFAULT;
  const uint32_t *rows = memory_table(memory, (uint32_t)offset, count, 2);
  if (rows == NULL) return -EFAULT;
  int error = memory_iovecs(memory, rows, count, out);
  return error < 0 ? error : (int)count;
}
