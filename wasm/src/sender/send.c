/*
 * Upstream → client. The host reads from the upstream straight into chunks, which are sent without a copy (sender.c)
 * and are free again when the client has acknowledged them. An idle flow holds none. A small answer takes 4 KB, a stream
 * takes 64 KB pieces, cut to a multiple of the client's MSS so that one chunk is one super-segment.
 *
 * Bound: TG_TX_BUDGET for all flows. One flow may hold a quarter of what is free (a dynamic threshold, as in
 * shared-memory switches), at most TG_TX_FLOW_MAX, and no more than a large chunk beyond its client's window. The last
 * TG_TX_RESERVE of the budget is for the small chunk of flows that hold nothing. Where they cannot have more, or not even that,
 * flows whose client has not taken a chunk for long give theirs (relief.c).
 */
#include "tungate.h"

#define READ_CHUNKS 8 /* large chunks offered for one read, when the last ones were filled */

/* A client that has not taken a chunk for so long gives way: to flows that need more than a small one; to those that get none. */
#define STALE_MS 10000
#define STALE_WHEN_OUT_MS 1000
#define RELIEF_MS 250 /* between two looks for such clients */

static u32_t waiting;
static enum { ENOUGH, SHORT, OUT } shortage; /* since the last tick, for flows that hold nothing */
static u32_t stale_ms;

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

static u32_t flow_limit(const struct tg_flow *flow)
{
  u32_t used = tg_send_used(), most = TG_TX_BUDGET - TG_TX_RESERVE;
  u32_t free = used < most ? most - used : 0;
  u32_t window = LWIP_MAX(flow->pcb->snd_wnd, flow->sender.nxt - flow->sender.una);
  return LWIP_MIN(LWIP_MIN(free / 4, TG_TX_FLOW_MAX), window + TG_LARGE_BYTES);
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
  u32_t usable = LWIP_MIN(size, 0xffff), mss = flow->peer_mss; /* a super-segment's length has 16 bits */
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
  u32_t limit = flow_limit(flow), count = 0;
  struct tg_chunk *tail = flow->tx_tail;
  if (tail != NULL && tail->filled < tail->room) {
    tg_iovecs[count].offset = (u32_t)(uintptr_t)(tg_chunk_bytes(tail) + tail->filled);
    tg_iovecs[count++].length = tail->room - tail->filled;
  }
  if (flow->tx_bytes == 0) {
    if (!reserve_chunk(flow, TG_SMALL_BYTES)) shortage = OUT;
    else if (limit < TG_LARGE_BYTES && shortage == ENOUGH) shortage = SHORT;
  }
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
  if (!flow->tx_waiting || flow->tx_bytes > flow_limit(flow) / 2) return;
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

/* Memory of a flow whose client has not taken a chunk for `stale_ms`. */
static u32_t stale_bytes(const struct tg_flow *flow)
{
  if (flow->tx_head == NULL || (u32_t)tg_now_ms - flow->tx_head->since_ms < stale_ms) return 0;
  u32_t bytes = 0;
  for (const struct tg_chunk *chunk = flow->tx_head; chunk != NULL; chunk = chunk->next) bytes += chunk->size;
  return bytes;
}

static void relieve(void)
{
  static u64_t relieved_ms;
  if (shortage == ENOUGH || tg_now_ms - relieved_ms < RELIEF_MS) return;
  relieved_ms = tg_now_ms;
  stale_ms = shortage == OUT ? STALE_WHEN_OUT_MS : STALE_MS;
  shortage = ENOUGH;
  tg_relieve(TG_TX_RESERVE, stale_bytes, tg_out_of_memory);
}

/* Flows that wait for the shared budget, not for their own client, are woken from here. */
void tg_send_tick(void)
{
  relieve();
  for (u32_t id = 0; waiting > 0 && id < tg_config.max_flows; id++)
    if (tg_flows[id].tx_waiting) room_event(&tg_flows[id]);
}
