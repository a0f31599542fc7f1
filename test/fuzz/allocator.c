/* Counted memory, which fails on order; and the reader of an input. */
#include "fuzz.h"

#undef malloc
#undef calloc
#undef free

size_t fuzz_blocks;
static u32_t fail_after, fail_count;

void fuzz_allocations_fail(u32_t skip, u32_t count)
{
  fail_after = skip;
  fail_count = count;
}

static int fails(void)
{
  if (fail_count == 0) return 0;
  if (fail_after > 0) {
    fail_after--;
    return 0;
  }
  fail_count--;
  return 1;
}

void *fuzz_malloc(size_t bytes)
{
  if (fails()) return NULL;
  void *block = malloc(bytes);
  if (block != NULL) fuzz_blocks++;
  return block;
}

void *fuzz_calloc(size_t count, size_t bytes)
{
  if (fails()) return NULL;
  void *block = calloc(count, bytes);
  if (block != NULL) fuzz_blocks++;
  return block;
}

void fuzz_free(void *block)
{
  if (block == NULL) return;
  fuzz_blocks--;
  free(block);
}

u32_t take(struct input *input, const u8_t **at, u32_t bytes)
{
  u32_t taken = (u32_t)LWIP_MIN(bytes, input->left);
  *at = input->at;
  input->at += taken;
  input->left -= taken;
  return taken;
}

u8_t take8(struct input *input)
{
  const u8_t *at;
  return take(input, &at, 1) == 1 ? at[0] : 0;
}

u16_t take16(struct input *input)
{
  u16_t low = take8(input);
  return (u16_t)(low | take8(input) << 8);
}

u32_t take32(struct input *input)
{
  u32_t low = take16(input);
  return low | (u32_t)take16(input) << 16;
}
