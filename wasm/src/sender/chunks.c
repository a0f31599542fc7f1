/*
 * Memory for bytes on their way to clients: blocks of 64 KB, given out whole (a large chunk) or in sixteenths (small ones).
 * A chunk's description lies apart from its bytes, so a block is nothing but pages, and what nobody has needed for a while
 * goes back to the kernel.
 */
#include "tungate.h"

#define BLOCKS (TG_TX_BUDGET / TG_LARGE_BYTES)
#define SMALLS (TG_LARGE_BYTES / TG_SMALL_BYTES)

static u8_t arena[BLOCKS][TG_LARGE_BYTES] __attribute__((aligned(65536)));
static struct tg_chunk chunks[BLOCKS * SMALLS]; /* by address */

/* In one list at a time: `partial` while some of its sixteenths are taken, `dirty` or `clean` when it is free. */
static struct block {
  struct block *prev, *next;
  struct tg_chunk *free; /* sixteenths */
  u32_t taken;           /* sixteenths */
} blocks[BLOCKS];

struct list {
  struct block *head, *tail;
};
static struct list partial, dirty, clean;
static u32_t fresh;                  /* blocks from here on were never used */
static u32_t dirty_count, dirty_low; /* free blocks with pages: now, and the fewest since the last trim */
static u32_t used_bytes;
static struct tg_chunk *limbo; /* freed while packets that may point into them are not written yet */

static void push(struct list *list, struct block *block)
{
  block->prev = NULL;
  block->next = list->head;
  if (list->head != NULL) list->head->prev = block;
  else list->tail = block;
  list->head = block;
}

static void take_out(struct list *list, struct block *block)
{
  if (block->prev != NULL) block->prev->next = block->next;
  else list->head = block->next;
  if (block->next != NULL) block->next->prev = block->prev;
  else list->tail = block->prev;
}

static u32_t index_of(const struct tg_chunk *chunk)
{
  return (u32_t)(chunk - chunks);
}

u8_t *tg_chunk_bytes(const struct tg_chunk *chunk)
{
  return &arena[0][0] + index_of(chunk) * TG_SMALL_BYTES;
}

/* The block used last comes first: its pages are there, and in the caches. */
static struct block *block_take(void)
{
  struct block *block = dirty.head;
  if (block != NULL) {
    take_out(&dirty, block);
    dirty_count--;
    dirty_low = LWIP_MIN(dirty_low, dirty_count);
    return block;
  }
  block = clean.head;
  if (block != NULL) take_out(&clean, block);
  else if (fresh < BLOCKS) block = &blocks[fresh++];
  return block;
}

static void block_give(struct block *block)
{
  push(&dirty, block);
  dirty_count++;
}

static struct tg_chunk *small_take(void)
{
  struct block *block = partial.head;
  if (block == NULL) {
    block = block_take();
    if (block == NULL) return NULL;
    block->taken = 0;
    block->free = NULL;
    struct tg_chunk *first = &chunks[(block - blocks) * SMALLS];
    for (u32_t at = SMALLS; at-- > 0;) {
      first[at].next = block->free;
      block->free = &first[at];
    }
    push(&partial, block);
  }
  struct tg_chunk *chunk = block->free;
  block->free = chunk->next;
  block->taken++;
  if (block->free == NULL) take_out(&partial, block);
  return chunk;
}

static void small_give(struct tg_chunk *chunk)
{
  struct block *block = &blocks[index_of(chunk) / SMALLS];
  if (block->free == NULL) push(&partial, block);
  chunk->next = block->free;
  block->free = chunk;
  if (--block->taken > 0) return;
  take_out(&partial, block);
  block_give(block);
}

/* `size`: TG_SMALL_BYTES or TG_LARGE_BYTES. NULL when all is taken. */
struct tg_chunk *tg_chunk_new(u32_t size)
{
  struct tg_chunk *chunk;
  if (size == TG_SMALL_BYTES) chunk = small_take();
  else {
    struct block *block = block_take();
    chunk = block != NULL ? &chunks[(block - blocks) * SMALLS] : NULL;
  }
  if (chunk == NULL) return NULL;
  used_bytes += size;
  *chunk = (struct tg_chunk){.size = size, .since_ms = (u32_t)tg_now_ms};
  return chunk;
}

static void give(struct tg_chunk *chunk)
{
  if (chunk->size == TG_SMALL_BYTES) small_give(chunk);
  else block_give(&blocks[index_of(chunk) / SMALLS]);
}

void tg_chunk_free(struct tg_chunk *chunk)
{
  used_bytes -= chunk->size;
  if (tg_egress_pending()) {
    chunk->next = limbo;
    limbo = chunk;
  } else give(chunk);
}

/* One that was never written to: no packet points into it. */
void tg_chunk_unused(struct tg_chunk *chunk)
{
  used_bytes -= chunk->size;
  give(chunk);
}

/* The packets are written: what was freed meanwhile may be used again. */
void tg_chunks_settle(void)
{
  while (limbo != NULL) {
    struct tg_chunk *chunk = limbo;
    limbo = chunk->next;
    give(chunk);
  }
}

TG_EXPORT(tg_send_used) u32_t tg_send_used(void)
{
  return used_bytes;
}

/* Once for each rest: `counter` has not moved since the last call, and what is counted there uses no memory now. */
int tg_rests(struct tg_rest *rest, double counter, int is_free)
{
  int rests = is_free && counter == rest->seen && counter != rest->given;
  rest->seen = counter;
  if (rests) rest->given = counter;
  return rests;
}

/*
 * Called about once a second: memory that was not needed since the last call, as iovecs in tg_iovecs, for the host to give
 * back to the kernel; how many, and again until it is 0. Its content is lost.
 */
TG_EXPORT(tg_trim) u32_t tg_trim(void)
{
  static u32_t unneeded;
  static int running;
  u32_t count = 0;
  if (!running) {
    unneeded = dirty_low;
    count = tg_slots_unneeded(tg_iovecs);
    count += tg_landing_unneeded(tg_iovecs + count);
    running = 1;
  }
  while (count < TG_IOVECS && unneeded > 0) {
    struct block *block = dirty.tail;
    take_out(&dirty, block);
    dirty_count--;
    unneeded--;
    push(&clean, block);
    tg_iovecs[count++] = (struct tg_iovec){(u32_t)(uintptr_t)arena[block - blocks], TG_LARGE_BYTES};
  }
  if (count == 0) {
    running = 0;
    dirty_low = dirty_count;
  }
  return count;
}
