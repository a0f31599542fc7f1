/*
 * Where names stand in tables. The keys are the kernel's random numbers, so that nobody can choose names that share a place:
 * the words of an address are multiplied, with a key on either side, and both halves of the product count; what stands beside it
 * is added to that, which nobody knows, and multiplied by an odd number that nobody knows.
 */
#include "tungate.h"

static u64_t keys[5];

void tg_hash_keys(const u8_t from[40])
{
  memcpy(keys, from, sizeof keys);
}

/* The halves of a product of 128 bits, folded; WebAssembly multiplies to 64. */
static u64_t fold(u64_t a, u64_t b)
{
  u64_t low = (a & 0xffffffff) * (b & 0xffffffff), high = (a >> 32) * (b >> 32);
  u64_t middle = (a >> 32) * (b & 0xffffffff) + (low >> 32);
  u64_t other = (a & 0xffffffff) * (b >> 32) + (middle & 0xffffffff);
  return (high + (middle >> 32) + (other >> 32)) ^ (other << 32 | (low & 0xffffffff));
}

static u64_t fold_address(const u8_t *address, const u64_t *key)
{
  u64_t words[2];
  memcpy(words, address, 16);
  return fold(words[0] ^ key[0], words[1] ^ key[1]);
}

/* Of an address and a number beside it; `use` tells tables apart. */
u32_t tg_hash(const u8_t *address, u32_t number, u32_t use)
{
  u64_t beside = (u64_t)use << 32 | number;
  return (u32_t)((fold_address(address, keys) ^ beside) * (keys[4] | 1) >> 32);
}

/* Of two addresses and what stands beside them. */
u32_t tg_hash_pair(const u8_t *one, const u8_t *other, u64_t number)
{
  return (u32_t)((fold_address(one, keys) ^ number) * (fold_address(other, keys + 2) | 1) >> 32);
}
