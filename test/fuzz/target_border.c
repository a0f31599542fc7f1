/*
 * The addon's own parsers: tables in WebAssembly's memory, which it must not trust, because what they name is handed to the
 * kernel; and the text of an address.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../native/link_linux.h"
#include "../../native/memory.h"

#define REQUIRE(condition, message)                                                                                    \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, message);                                                     \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)
#define ROOM 16

static uint32_t take32(const uint8_t **bytes, size_t *size) {
  uint32_t value = 0;
  size_t taken = *size < 4 ? *size : 4;
  memcpy(&value, *bytes, taken);
  *bytes += taken;
  *size -= taken;
  return value;
}

/** Whatever is let through lies inside the memory: it is read, and AddressSanitizer watches. */
static void touch(const struct memory *memory, const struct iovec *list, int count) {
  static volatile uint8_t seen;
  for (int at = 0; at < count; at++) {
    const uint8_t *from = list[at].iov_base;
    REQUIRE(from >= memory->base && list[at].iov_len <= memory->length, "an iovec that begins outside the memory");
    REQUIRE(from + list[at].iov_len <= memory->base + memory->length, "an iovec that ends outside the memory");
    for (size_t index = 0; index < list[at].iov_len; index++) seen = from[index];
  }
  (void)seen;
}

static void tables(const uint8_t *bytes, size_t size) {
  uint32_t offset = take32(&bytes, &size), rows = take32(&bytes, &size), words = take32(&bytes, &size) % 4;
  uint32_t message[3] = {take32(&bytes, &size), take32(&bytes, &size), 0}, iovecs = take32(&bytes, &size);
  struct memory memory = {.base = malloc(size + 1), .length = size};
  memcpy(memory.base, bytes, size);
  struct iovec list[ROOM];
  const uint32_t *table = memory_table(&memory, offset, rows, words);
  if (table != NULL) {
    const uint8_t *from = (const uint8_t *)table;
    REQUIRE(from >= memory.base && from + (uint64_t)rows * words * 4 <= memory.base + size, "a table outside the memory");
    if (words == 2 && rows <= ROOM && memory_iovecs(&memory, table, rows, list) == 0) touch(&memory, list, (int)rows);
  }
  int count = memory_message(&memory, message, iovecs, list, ROOM);
  REQUIRE(count <= ROOM, "more iovecs than there is room for");
  if (count > 0) touch(&memory, list, count);
  void *span = memory_span(&memory, offset, rows);
  if (span != NULL) touch(&memory, &(struct iovec){.iov_base = span, .iov_len = rows}, 1);
  free(memory.base);
}

static void address(const uint8_t *bytes, size_t size) {
  char *text = malloc(size + 1);
  memcpy(text, bytes, size);
  text[size] = 0;
  struct link_address first, second;
  if (link_parse_address(text, &first)) {
    REQUIRE(first.prefix <= (first.family == AF_INET ? 32 : 128), "a prefix that is too long");
    char again[INET6_ADDRSTRLEN + 4];
    inet_ntop(first.family, first.bytes, again, INET6_ADDRSTRLEN);
    sprintf(again + strlen(again), "/%u", first.prefix);
    REQUIRE(link_parse_address(again, &second), "an address that was written is not read again");
    REQUIRE(memcmp(&first, &second, sizeof first) == 0, "an address that was written is read as another");
  }
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size == 0) return 0;
  if (bytes[0] % 2) tables(bytes + 1, size - 1);
  else address(bytes + 1, size - 1);
  return 0;
}
