/*
 * What is in flight of a flow, as spans that lie side by side: one for what was sent at a time, more where SACKs and losses
 * cut it. A flow that loses nothing only adds at one end and takes away at the other.
 */
#include "tungate.h"

/* What is sent within this time counts as sent at once. */
#define MERGE_US 500

static u32_t held; /* memory of spans, all flows */

static struct tg_span *at(const struct tg_sender *sender, u32_t index)
{
  return &sender->spans[sender->first_span + index];
}

u32_t tg_span_end(const struct tg_sender *sender, u32_t index)
{
  return index + 1 < sender->span_count ? at(sender, index + 1)->start : sender->nxt;
}

static void free_memory(struct tg_sender *sender)
{
  if (sender->spans == NULL || sender->spans == sender->few) return;
  held -= sender->span_room * sizeof *sender->spans;
  mem_free(sender->spans);
}

void tg_spans_free(struct tg_sender *sender)
{
  free_memory(sender);
  sender->spans = sender->few;
  sender->span_room = TG_FEW_SPANS;
  sender->first_span = sender->span_count = 0;
  sender->sacked = sender->lost = 0;
}

static void count(struct tg_sender *sender, u32_t state, u32_t bytes)
{
  if (state == TG_SACKED) sender->sacked += bytes;
  if (state == TG_LOST) sender->lost += bytes;
}

/* The one place where what became of a span changes, and with it what is counted of it. */
void tg_span_set(struct tg_sender *sender, u32_t index, u8_t state)
{
  struct tg_span *span = at(sender, index);
  u32_t bytes = tg_span_end(sender, index) - span->start;
  count(sender, span->state, 0u - bytes);
  count(sender, state, bytes);
  span->state = state;
}

/* The first span is in flight no more up to `sequence`, which is inside of it or its end. */
void tg_span_acked(struct tg_sender *sender, u32_t sequence)
{
  struct tg_span *first = at(sender, 0);
  int is_all = sequence == tg_span_end(sender, 0);
  count(sender, first->state, first->start - sequence);
  first->start = sequence;
  if (!is_all) return;
  sender->first_span++;
  sender->span_count--;
}

/* As many spans as there are segments in flight say all that can be true of them. */
static int may_grow(const struct tg_sender *sender, u32_t room)
{
  if (room <= TG_ANY_SPANS) return 1;
  if (room > TG_MAX_SPANS || held + room * sizeof *sender->spans > TG_SPAN_BUDGET) return 0;
  return (sender->nxt - sender->una) / sender->mss + 1 >= sender->span_room;
}

/* Room for one more. 0: at the bound, or no memory. */
static int has_room(struct tg_sender *sender)
{
  if (sender->first_span + sender->span_count < sender->span_room) return 1;
  if (sender->first_span > 0) {
    memmove(sender->spans, at(sender, 0), sender->span_count * sizeof *sender->spans);
    sender->first_span = 0;
    return 1;
  }
  u32_t room = 4 * sender->span_room;
  if (!may_grow(sender, room)) return 0;
  struct tg_span *more = mem_malloc(room * sizeof *more);
  if (more == NULL) return 0;
  memcpy(more, sender->spans, sender->span_count * sizeof *more);
  free_memory(sender);
  held += room * sizeof *more;
  sender->spans = more;
  sender->span_room = room;
  return 1;
}

/*
 * Bytes from `start` == nxt on are being sent for the first time. Without room for a span they are of the last one, which
 * then is in flight again as a whole, whatever was known of it: what it says must be true of all of it.
 */
void tg_span_add(struct tg_sender *sender, u32_t start)
{
  u32_t now = (u32_t)tg_now_us;
  struct tg_span *last = sender->span_count > 0 ? at(sender, sender->span_count - 1) : NULL;
  int joins = last != NULL && last->state == TG_SENT && !last->resent;
  if (joins && now - last->sent_us < MERGE_US) return;
  if (has_room(sender)) {
    *at(sender, sender->span_count++) = (struct tg_span){start, now, TG_SENT, 0};
    return;
  }
  u32_t index = sender->span_count - 1;
  tg_span_set(sender, index, TG_SENT);
  if (!joins) at(sender, index)->resent = 1;
  at(sender, index)->sent_us = now;
}

/* Cuts a span in two at a sequence inside of it. 0: no room, it stays whole. */
int tg_span_split(struct tg_sender *sender, u32_t index, u32_t sequence)
{
  if (!has_room(sender)) return 0;
  struct tg_span *span = at(sender, index);
  memmove(span + 2, span + 1, (sender->span_count - index - 1) * sizeof *span);
  span[1] = span[0];
  span[1].start = sequence;
  sender->span_count++;
  return 1;
}

static int alike(const struct tg_span *a, const struct tg_span *b)
{
  if (a->state != b->state) return 0;
  return a->state == TG_SACKED || (a->resent == b->resent && (a->state == TG_LOST || a->sent_us == b->sent_us));
}

/* Neighbours that do not differ any more become one. */
void tg_spans_tidy(struct tg_sender *sender)
{
  u32_t kept = 0;
  for (u32_t index = 0; index < sender->span_count; index++) {
    struct tg_span *span = at(sender, index);
    if (kept > 0 && alike(at(sender, kept - 1), span)) continue;
    *at(sender, kept++) = *span;
  }
  sender->span_count = kept;
}

/* The span of a sequence that is in flight. */
u32_t tg_span_find(const struct tg_sender *sender, u32_t sequence)
{
  u32_t low = 0, high = sender->span_count;
  while (high - low > 1) {
    u32_t middle = (low + high) / 2;
    if (TCP_SEQ_LEQ(at(sender, middle)->start, sequence)) low = middle;
    else high = middle;
  }
  return low;
}

struct tg_span *tg_span_at(const struct tg_sender *sender, u32_t index)
{
  return at(sender, index);
}

/* Memory of spans, all flows. */
TG_EXPORT(tg_spans_held) u32_t tg_spans_held(void)
{
  return held;
}
