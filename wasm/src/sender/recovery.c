/*
 * Loss of what was sent to a client: found by time (RACK, RFC 8985) from what has arrived (arrivals.c), and repaired piece by
 * piece. The last of a burst is asked for by a probe (RFC 8985 7), all that is left by a retransmission time-out
 * (RFC 6298). A client without SACK is served by its duplicate acknowledgements (RFC 6582).
 *
 * The reordering window is nothing until reordering was seen, then a quarter of the least round trip, and wider with each
 * round in which a retransmission proves needless (DSACK, RFC 2883).
 */
#include "tungate.h"

#define MAX_BACKOFF_SHIFT 7
#define PROBE_MARGIN_US 10000
/* A client may wait so long before it acknowledges a lone segment. */
#define PROBE_LONE_US 160000

/* Flows whose reordering window is being waited for: the host calls more often meanwhile, and only these are looked at then. */
u32_t tg_reorder_timers;
static struct tg_flow *reorder_head;

/* ---- losses ---- */

static void begin_recovery(struct tg_sender *sender)
{
  if (sender->recovering) return;
  sender->recovering = 1;
  sender->recovery_point = sender->nxt;
}

/* RFC 8985 6.2, step 4 */
static u32_t reorder_window(const struct tg_sender *sender, u32_t mss)
{
  if (!sender->reordering && (sender->recovering || sender->sacked >= TG_DUPLICATES * mss)) return 0;
  return LWIP_MIN(sender->reorder_mult * (sender->min_rtt_us / 4), sender->srtt_us);
}

/*
 * RFC 8985 6.2, step 5: what was sent before something that has arrived, and should have arrived by now, is lost. Where
 * packets overtake each other an early one does not say that the path is shorter.
 */
void tg_find_lost(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  sender->reorder_at = 0;
  if (sender->rack_rtt_us == 0) return;
  u32_t now = (u32_t)tg_now_us, lost = 0, soonest = 0;
  u32_t patience = sender->reordering ? LWIP_MAX(sender->rack_rtt_us, sender->srtt_us) : sender->rack_rtt_us;
  patience += reorder_window(sender, flow->peer_mss);
  for (u32_t index = 0; index < sender->span_count; index++) {
    const struct tg_span *span = tg_span_at(sender, index);
    if (span->state != TG_SENT) continue;
    s32_t earlier = (s32_t)(sender->rack_us - span->sent_us);
    if (earlier < 0 || (earlier == 0 && TCP_SEQ_GEQ(span->start, sender->rack_end))) continue;
    u32_t waited = now - span->sent_us;
    if (waited < patience) {
      if (soonest == 0 || patience - waited < soonest) soonest = patience - waited;
      continue;
    }
    tg_span_set(sender, index, TG_LOST);
    lost += tg_span_end(sender, index) - span->start;
  }
  if (soonest != 0) sender->reorder_at = tg_now_us + soonest;
  if (lost == 0) return;
  sender->round_lost += lost;
  begin_recovery(sender);
  tg_spans_tidy(sender);
}

/* Without SACK: the first segment that is not acknowledged. */
void tg_lose_first(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (sender->span_count == 0 || tg_span_at(sender, 0)->state != TG_SENT) return;
  u32_t end = sender->una + flow->peer_mss;
  if (TCP_SEQ_LT(end, tg_span_end(sender, 0)) && !tg_span_split(sender, 0, end)) return;
  tg_span_set(sender, 0, TG_LOST);
  sender->round_lost += tg_span_end(sender, 0) - sender->una;
  begin_recovery(sender);
  tg_spans_tidy(sender);
}

/* ---- retransmission ---- */

static void resent(struct tg_sender *sender, u32_t index, u32_t bytes)
{
  struct tg_span *span = tg_span_at(sender, index);
  if (TCP_SEQ_LT(span->start + bytes, tg_span_end(sender, index)) &&
      tg_span_split(sender, index, span->start + bytes))
    span = tg_span_at(sender, index);
  tg_span_set(sender, index, TG_SENT);
  span->resent = 1;
  span->sent_us = (u32_t)tg_now_us;
  sender->resent[sender->resent_count++ % TG_RESENT_KEPT] = span->start;
  TG_COUNT(tcp_retransmitted);
  tg_counters.tcp_retransmitted_bytes += bytes;
}

/* Lost bytes go out again, the first first, as far as the congestion window allows; one segment always when all else is. */
void tg_resend(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  u32_t mss = flow->peer_mss;
  u32_t window = LWIP_MAX(flow->pcb->snd_wnd, mss); /* a client that takes back its window is asked by one segment */
  for (u32_t index = 0; sender->lost > 0 && index < sender->span_count; index++) {
    struct tg_span *span = tg_span_at(sender, index);
    if (span->state != TG_LOST) continue;
    u32_t flight = tg_in_flight(sender), bytes = tg_span_end(sender, index) - span->start;
    u32_t room = sender->cwnd > flight ? (sender->cwnd - flight) / mss * mss : 0;
    if (flight == 0) room = LWIP_MAX(room, mss);
    if (room == 0) {
      sender->limited = 1;
      return;
    }
    if (span->start - sender->una >= window) return;
    u32_t sent = tg_send_piece(flow, span->start, LWIP_MIN(bytes, room));
    if (sent == 0) return;
    resent(sender, index, sent);
  }
}

/* ---- timers ---- */

static void list(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  sender->reorder_prev = NULL;
  sender->reorder_next = reorder_head;
  if (reorder_head != NULL) reorder_head->sender.reorder_prev = flow;
  reorder_head = flow;
  tg_reorder_timers++;
}

static void unlist(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (sender->reorder_prev != NULL) sender->reorder_prev->sender.reorder_next = sender->reorder_next;
  else reorder_head = sender->reorder_next;
  if (sender->reorder_next != NULL) sender->reorder_next->sender.reorder_prev = sender->reorder_prev;
  tg_reorder_timers--;
}

static void set_timer(struct tg_flow *flow, u8_t timer, u64_t when)
{
  struct tg_sender *sender = &flow->sender;
  int was = sender->timer == TG_TIMER_REORDER, is = timer == TG_TIMER_REORDER;
  if (was && !is) unlist(flow);
  if (is && !was) list(flow);
  sender->timer = timer;
  sender->timer_at = when;
}

void tg_recovery_disarm(struct tg_flow *flow)
{
  set_timer(flow, TG_TIMER_NONE, 0);
}

static u64_t backed_off_us(const struct tg_sender *sender)
{
  return (u64_t)tg_rto_us(sender) << LWIP_MIN(sender->backoff, MAX_BACKOFF_SHIFT);
}

static int may_probe(const struct tg_flow *flow)
{
  const struct tg_sender *sender = &flow->sender;
  return (flow->pcb->flags & TF_SACK) && !sender->recovering && !sender->probing && sender->sacked == 0 &&
         sender->lost == 0 && sender->backoff == 0 && sender->srtt_us != 0 && flow->pcb->snd_wnd > 0;
}

/* The timer that is due first of those that what is in flight needs. */
void tg_recovery_arm(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (sender->nxt == sender->una) {
    int is_closed = sender->unsent > 0 && tg_send_window(flow) < LWIP_MIN(sender->unsent, flow->peer_mss);
    if (!is_closed) set_timer(flow, TG_TIMER_NONE, 0);
    else if (sender->timer != TG_TIMER_PERSIST) set_timer(flow, TG_TIMER_PERSIST, tg_now_us + backed_off_us(sender));
    return;
  }
  u64_t timeout = sender->progress_at + backed_off_us(sender);
  if (sender->reorder_at != 0 && sender->reorder_at < timeout) {
    set_timer(flow, TG_TIMER_REORDER, sender->reorder_at);
    return;
  }
  if (may_probe(flow)) {
    int is_lone = sender->nxt - sender->una <= flow->peer_mss;
    u64_t probe = sender->probe_base_at + 2 * sender->srtt_us + (is_lone ? PROBE_LONE_US : PROBE_MARGIN_US);
    if (probe < timeout) {
      set_timer(flow, TG_TIMER_PROBE, probe);
      return;
    }
  }
  set_timer(flow, TG_TIMER_TIMEOUT, timeout);
}

/* RFC 8985 7.3: new data if there is some, else the last segment again. */
static void probe(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  u32_t mss = flow->peer_mss;
  if (sender->unsent > 0 && tg_send_window(flow) >= LWIP_MIN(mss, sender->unsent)) tg_send_new(flow, mss);
  else {
    u32_t index = sender->span_count - 1, bytes = sender->nxt - tg_span_at(sender, index)->start;
    if (bytes > mss + sender->has_fin) {
      bytes = mss + sender->has_fin;
      if (tg_span_split(sender, index, sender->nxt - bytes)) index++;
    }
    if (tg_send_piece(flow, sender->nxt - bytes, bytes) == bytes) resent(sender, index, bytes);
  }
  sender->probing = 1;
  sender->probe_end = sender->nxt;
  sender->progress_at = tg_now_us;
}

/* RFC 6298 5.4 to 5.6. A client that takes back what it had SACKed shows by the first span (RFC 2018 8). */
static void time_out(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (sender->tries >= TCP_MAXRTX) {
    flow->pcb->nrtx = TCP_MAXRTX; /* lwIP's next slow timer ends it */
    sender->progress_at = tg_now_us;
    return;
  }
  TG_COUNT(tcp_timeouts);
  sender->tries++;
  if (sender->backoff < MAX_BACKOFF_SHIFT) sender->backoff++;
  tg_congestion_timeout(sender, flow->peer_mss);
  int reneged = tg_span_at(sender, 0)->state == TG_SACKED;
  if (reneged) sender->fack = sender->una;
  for (u32_t index = 0; index < sender->span_count; index++) {
    if (tg_span_at(sender, index)->state == TG_SENT || reneged) tg_span_set(sender, index, TG_LOST);
  }
  tg_spans_tidy(sender);
  sender->recovering = sender->timed_out = 1;
  sender->recovery_point = sender->nxt;
  sender->probing = sender->duplicates = 0;
  sender->reorder_at = 0;
  sender->progress_at = tg_now_us;
}

void tg_recovery_timer(struct tg_flow *flow)
{
  u8_t timer = flow->sender.timer;
  if (timer == TG_TIMER_REORDER) tg_find_lost(flow);
  else if (timer == TG_TIMER_PROBE) probe(flow);
  else time_out(flow);
  tg_send(flow);
}

/* Between ticks. A flow may leave the list while it is looked at, and comes to its head. */
void tg_recovery_hurry(void)
{
  for (struct tg_flow *flow = reorder_head, *next; flow != NULL; flow = next) {
    next = flow->sender.reorder_next;
    tg_sender_tick(flow);
  }
}
