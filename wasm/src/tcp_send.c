/*
 * Upstream → client. The host reads from the upstream straight into chunks, which are sent without a copy (sender.c)
 * and are free again when the client has acknowledged them. An idle flow holds none. A small answer takes 4 KB, a stream
 * takes 64 KB pieces, cut to a multiple of the client's MSS so that one chunk is one super-segment.
 *
 * Bound: TG_TX_BUDGET for all flows. One flow may hold a quarter of what is free (a dynamic threshold, as in
 * shared-memory switches), at most TG_TX_FLOW_MAX; a flow that holds nothing may always try for one small chunk.
 */
#include "tungate.h"

#define READ_CHUNKS 8 /* large chunks offered for one read, when the last ones were filled */

static u32_t waiting;

static void free_list(struct tg_chunk **list)
{
  while (*list != NULL) {
    struct tg_chunk *chunk = *list;
    *list = chunk->next;
    tg_chunk_free(chunk);
  }
}

void tg_send_free(struct tg_flow *flow)
{
  free_list(&flow->tx_head);
  free_list(&flow->tx_reserved);
  flow->tx_tail = NULL;
  flow->tx_bytes = 0;
  if (flow->tx_waiting) waiting--;
  flow->tx_waiting = 0;
}

static u32_t flow_limit(void)
{
  u32_t used = tg_send_used();
  u32_t free = used < TG_TX_BUDGET ? TG_TX_BUDGET - used : 0;
  return LWIP_MIN(free / 4, TG_TX_FLOW_MAX);
}

static void wait(struct tg_flow *flow)
{
  if (flow->tx_waiting) return;
  flow->tx_waiting = 1;
  waiting++;
}

static int reserve_chunk(struct tg_flow *flow, u32_t size)
{
  struct tg_chunk *chunk = tg_chunk_new(size);
  if (chunk == NULL) return 0;
  u32_t usable = LWIP_MIN(size, 0xffff), mss = flow->peer_mss; /* tcp_write takes a 16-bit length */
  chunk->room = mss != 0 && mss < usable ? usable / mss * mss : usable;
  struct tg_chunk **end = &flow->tx_reserved;
  while (*end != NULL) end = &(*end)->next;
  *end = chunk;
  return 1;
}

/*
 * Room for the next read from the upstream, as iovecs in tg_iovecs: how many, 0 when the client must acknowledge first
 * (a ROOM event follows). commit() must follow before anything else is asked of this flow.
 */
TG_EXPORT(tg_tcp_reserve) u32_t tg_tcp_reserve(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->pcb == NULL || flow->state != TG_OPEN) return 0;
  u32_t limit = flow_limit(), count = 0;
  struct tg_chunk *tail = flow->tx_tail;
  if (tail != NULL && tail->filled < tail->room) {
    tg_iovecs[count].offset = (u32_t)(uintptr_t)(tg_chunk_bytes(tail) + tail->filled);
    tg_iovecs[count++].length = tail->room - tail->filled;
  }
  if (flow->tx_bytes == 0) reserve_chunk(flow, TG_SMALL_BYTES);
  u32_t wanted = LWIP_MAX(flow->appetite, 1);
  for (u32_t at = 0; at < wanted && flow->tx_bytes + (at + 1) * TG_LARGE_BYTES <= limit; at++)
    if (!reserve_chunk(flow, TG_LARGE_BYTES)) break;
  for (struct tg_chunk *chunk = flow->tx_reserved; chunk != NULL; chunk = chunk->next) {
    tg_iovecs[count].offset = (u32_t)(uintptr_t)tg_chunk_bytes(chunk);
    tg_iovecs[count++].length = chunk->room;
  }
  if (count == 0) wait(flow);
  flow->tx_offered = 0;
  for (u32_t at = 0; at < count; at++) flow->tx_offered += tg_iovecs[at].length;
  return count;
}

/* A stream that fills what it is offered is offered more, up to READ_CHUNKS; a talk of short messages costs one chunk a turn. */
static void learn(struct tg_flow *flow, u32_t bytes)
{
  u32_t appetite = LWIP_MAX(flow->appetite, 1);
  if (bytes == flow->tx_offered) flow->appetite = (u8_t)LWIP_MIN(2 * appetite, READ_CHUNKS);
  else if (bytes < flow->tx_offered / 4) flow->appetite = (u8_t)(appetite / 2);
}

/* `bytes` were read into what reserve() offered (0: none). They go out to the client. */
TG_EXPORT(tg_tcp_commit) void tg_tcp_commit(u32_t id, u32_t bytes)
{
  struct tg_flow *flow = &tg_flows[id];
  u32_t left = bytes;
  if (bytes > 0) learn(flow, bytes);
  struct tg_sender *sender = &flow->sender;
  struct tg_chunk *tail = flow->tx_tail;
  if (tail != NULL) {
    u32_t part = LWIP_MIN(left, tail->room - tail->filled);
    if (sender->next_chunk == NULL && part > 0) sender->next_chunk = tail;
    tail->filled += part;
    left -= part;
  }
  while (left > 0 && flow->tx_reserved != NULL) {
    struct tg_chunk *chunk = flow->tx_reserved;
    flow->tx_reserved = chunk->next;
    chunk->next = NULL;
    chunk->filled = LWIP_MIN(left, chunk->room);
    left -= chunk->filled;
    if (flow->tx_tail != NULL) flow->tx_tail->next = chunk;
    else flow->tx_head = chunk;
    flow->tx_tail = chunk;
    if (sender->next_chunk == NULL) sender->next_chunk = chunk;
  }
  while (flow->tx_reserved != NULL) {
    struct tg_chunk *chunk = flow->tx_reserved;
    flow->tx_reserved = chunk->next;
    tg_chunk_unused(chunk);
  }
  flow->tx_bytes += bytes;
  sender->unsent += bytes;
  if (bytes == 0) return;
  tg_pcb_wake(flow);
  tg_send(flow);
}

static void room_event(struct tg_flow *flow)
{
  if (!flow->tx_waiting || flow->tx_bytes > flow_limit() / 2) return;
  flow->tx_waiting = 0;
  waiting--;
  tg_event(flow, TG_EV_ROOM);
}

void tg_acked(struct tg_flow *flow, u32_t bytes)
{
  u32_t left = bytes;
  struct tg_chunk *chunk;
  while ((chunk = flow->tx_head) != NULL && left > 0) {
    u32_t part = LWIP_MIN(left, chunk->written - chunk->acked);
    chunk->acked += part;
    left -= part;
    flow->tx_bytes -= part;
    if (chunk->acked != chunk->filled) break;
    flow->tx_head = chunk->next;
    if (chunk->next == NULL) flow->tx_tail = NULL;
    tg_chunk_free(chunk);
  }
  room_event(flow);
}

/* Flows that wait for the shared budget, not for their own client, are woken from here. */
void tg_send_tick(void)
{
  for (u32_t id = 0; waiting > 0 && id < tg_config.max_flows; id++)
    if (tg_flows[id].tx_waiting) room_event(&tg_flows[id]);
}
