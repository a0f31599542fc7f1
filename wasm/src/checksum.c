/* The Internet checksum (RFC 1071) of a run of bytes, wide enough for the compiler to use SIMD. */
#include "tungate.h"

/* The folded, not complemented sum of 16-bit words in memory order: what LWIP_CHKSUM must give. */
unsigned short tg_checksum(const void *data, int length)
{
  const u8_t *at = data;
  u64_t sum = 0;
  int words = length >> 2;
  for (int index = 0; index < words; index++) {
    u32_t word;
    memcpy(&word, at + 4 * (size_t)index, 4);
    sum += word;
  }
  at += 4 * (size_t)words;
  if (length & 2) {
    u16_t half;
    memcpy(&half, at, 2);
    sum += half;
    at += 2;
  }
  if (length & 1) sum += *at;
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (unsigned short)sum;
}
