/* Initial sequence numbers by RFC 6528: a 4 µs clock plus a keyed hash (SipHash-2-4) of the connection's names. */
#include "tungate.h"

static u64_t key0, key1;

void tg_isn_key(const u8_t key[16])
{
  memcpy(&key0, key, 8);
  memcpy(&key1, key + 8, 8);
}

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))
#define ROUND                                                                                                          \
  do {                                                                                                                 \
    v0 += v1; v1 = ROTATE(v1, 13) ^ v0; v0 = ROTATE(v0, 32);                                                           \
    v2 += v3; v3 = ROTATE(v3, 16) ^ v2;                                                                                \
    v0 += v3; v3 = ROTATE(v3, 21) ^ v0;                                                                                \
    v2 += v1; v1 = ROTATE(v1, 17) ^ v2; v2 = ROTATE(v2, 32);                                                           \
  } while (0)

/* `words` 64-bit words; the length byte of the last block is fixed, because all messages have one length. */
static u64_t siphash(const u64_t *message, int words)
{
  u64_t v0 = key0 ^ 0x736f6d6570736575ull, v1 = key1 ^ 0x646f72616e646f6dull;
  u64_t v2 = key0 ^ 0x6c7967656e657261ull, v3 = key1 ^ 0x7465646279746573ull;
  for (int at = 0; at < words; at++) {
    v3 ^= message[at];
    ROUND; ROUND;
    v0 ^= message[at];
  }
  v2 ^= 0xff;
  ROUND; ROUND; ROUND; ROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}

u32_t tg_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
  u64_t message[5] = {0};
  tg_put_address((u8_t *)message, local);
  tg_put_address((u8_t *)(message + 2), remote);
  message[4] = (u64_t)local_port << 16 | remote_port;
  return (u32_t)siphash(message, 5) + (u32_t)(tg_now_ms * 250);
}
