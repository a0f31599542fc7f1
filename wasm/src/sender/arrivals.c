/*
 * What a client's segments say of what was sent to it: cumulative and selective acknowledgements (RFC 2018), duplicates that
 * it tells of (RFC 2883), and those that it sends for want of SACK. lwIP sees the same segments, but not what they repeat.
 */
#include "tungate.h"

#define REORDER_PERSIST 16

/* ---- what a segment says ---- */

static u32_t read_sequence(const u8_t *at)
{
  return (u32_t)at[0] << 24 | (u32_t)at[1] << 16 | (u32_t)at[2] << 8 | at[3];
}

static void read_blocks(struct tg_report *report, const u8_t *option, u32_t bytes)
{
  report->blocks = LWIP_MIN((bytes - 2) / 8, 4);
  for (u32_t block = 0; block < report->blocks; block++) {
    report->left[block] = read_sequence(option + 2 + 8 * block);
    report->right[block] = read_sequence(option + 6 + 8 * block);
  }
}

/* Before lwIP changes it: `header` lies in one piece, `data` is what is behind it. */
void tg_report_read(struct tg_report *report, const struct tg_flow *flow, const struct tcp_hdr *header, u32_t data)
{
  u8_t flags = TCPH_FLAGS(header) & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK);
  report->blocks = 0;
  report->pure = data == 0 && flags == TCP_ACK && lwip_ntohl(header->ackno) == flow->sender.una;
  report->window = flow->pcb->snd_wnd;
  u32_t length = TCPH_HDRLEN_BYTES(header) - TCP_HLEN;
  if (length == 0 || flags != TCP_ACK || !(flow->pcb->flags & TF_SACK)) return;
  const u8_t *options = (const u8_t *)(header + 1);
  for (u32_t at = 0; at < length && options[at] != LWIP_TCP_OPT_EOL;) {
    if (options[at] == LWIP_TCP_OPT_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= length || options[at + 1] < 2 || at + options[at + 1] > length) return;
    if (options[at] == 5) read_blocks(report, options + at, options[at + 1]); /* RFC 2018 3 */
    at += options[at + 1];
  }
}

/* ---- arrivals ---- */

struct arrival {
  u32_t delivered;
  u32_t newest_us; /* when the newest of it was sent, of what was sent once */
  u8_t timed, spurious;
};

/* `bytes` of a span have arrived, which was not known before. */
static void arrived(struct tg_sender *sender, const struct tg_span *span, u32_t end, struct arrival *got)
{
  u32_t now = (u32_t)tg_now_us;
  got->delivered += end - span->start;
  if (!span->resent) {
    if (TCP_SEQ_LT(span->start, sender->fack)) sender->reordering = 1;
    if (span->state == TG_LOST) got->spurious = 1;
    if (!got->timed || (s32_t)(span->sent_us - got->newest_us) > 0) got->newest_us = span->sent_us;
    got->timed = 1;
  } else if (sender->min_rtt_us != TG_NEVER && now - span->sent_us < sender->min_rtt_us) {
    sender->reordering = got->spurious = 1; /* too early for the second one: the first has arrived */
    return;
  }
  s32_t later = (s32_t)(span->sent_us - sender->rack_us);
  if (sender->rack_rtt_us != 0 && (later < 0 || (later == 0 && TCP_SEQ_LEQ(end, sender->rack_end)))) return;
  sender->rack_us = span->sent_us;
  sender->rack_end = end;
  sender->rack_rtt_us = LWIP_MAX(now - span->sent_us, 1);
}

/* All up to `una` has arrived. */
static void take_acked(struct tg_sender *sender, u32_t una, struct arrival *got)
{
  while (sender->span_count > 0) {
    struct tg_span *first = tg_span_at(sender, 0);
    u32_t end = tg_span_end(sender, 0);
    u32_t part = TCP_SEQ_LEQ(end, una) ? end : una;
    if (TCP_SEQ_LEQ(part, first->start)) break;
    if (first->state != TG_SACKED) arrived(sender, first, part, got);
    tg_span_acked(sender, part);
    if (part != end) break;
  }
  sender->una = una;
  if (TCP_SEQ_LT(sender->fack, una)) sender->fack = una;
  if (sender->span_count > 0) return;
  tg_spans_free(sender);
  sender->rack_rtt_us = 0;
}

/*
 * A client takes whole segments. What is shorter is believed where something that was sent ends: otherwise it is a means to have
 * what is in flight cut to pieces.
 */
static int is_segments(const struct tg_sender *sender, u32_t left, u32_t right)
{
  return right - left >= sender->mss || tg_span_end(sender, tg_span_find(sender, right - 1)) == right;
}

static void take_block(struct tg_sender *sender, u32_t left, u32_t right, struct arrival *got)
{
  for (u32_t index = tg_span_find(sender, left); index < sender->span_count; index++) {
    u32_t start = tg_span_at(sender, index)->start;
    if (TCP_SEQ_GEQ(start, right)) break;
    if (tg_span_at(sender, index)->state == TG_SACKED) continue;
    if (TCP_SEQ_LT(start, left)) {
      if (!tg_span_split(sender, index, left)) return;
      continue;
    }
    if (TCP_SEQ_GT(tg_span_end(sender, index), right) && !tg_span_split(sender, index, right)) return;
    arrived(sender, tg_span_at(sender, index), tg_span_end(sender, index), got);
    tg_span_set(sender, index, TG_SACKED);
  }
}

/* A needless retransmission: reordering is wider than was thought. A copy that the network made counts nothing. */
static void take_duplicate(struct tg_sender *sender, u32_t left, u32_t mss)
{
  u32_t kept = LWIP_MIN(sender->resent_count, TG_RESENT_KEPT);
  for (u32_t index = 0; index < kept; index++) {
    if (left - sender->resent[index] >= mss) continue;
    sender->reordering = 1;
    sender->reorder_persist = REORDER_PERSIST;
    if (TCP_SEQ_LT(sender->una, sender->spurious_end)) return; /* once a round */
    sender->spurious_end = sender->nxt;
    if (sender->reorder_mult < 255) sender->reorder_mult++;
    return;
  }
}

static void take_blocks(struct tg_flow *flow, const struct tg_report *report, struct arrival *got)
{
  struct tg_sender *sender = &flow->sender;
  u32_t highest = sender->fack;
  for (u32_t block = 0; block < report->blocks; block++) {
    u32_t left = report->left[block], right = report->right[block];
    if (!TCP_SEQ_LT(left, right)) continue;
    int is_inside = report->blocks > 1 && TCP_SEQ_GEQ(left, report->left[1]) && TCP_SEQ_LEQ(right, report->right[1]);
    if (block == 0 && (TCP_SEQ_LEQ(right, sender->una) || is_inside)) { /* RFC 2883 4 */
      take_duplicate(sender, left, flow->peer_mss);
      continue;
    }
    if (TCP_SEQ_LT(left, sender->una) || TCP_SEQ_GT(right, sender->nxt)) continue;
    if (!is_segments(sender, left, right)) continue;
    take_block(sender, left, right, got);
    if (TCP_SEQ_GT(right, highest)) highest = right;
  }
  sender->fack = highest;
  tg_spans_tidy(sender);
}

/* ---- after lwIP has seen the segment ---- */

static void end_recovery(struct tg_sender *sender)
{
  sender->recovering = sender->timed_out = 0;
  if (sender->reorder_persist > 0 && --sender->reorder_persist == 0) sender->reorder_mult = 1;
}

static void count_duplicates(struct tg_flow *flow, const struct tg_report *report, u32_t acked)
{
  struct tg_sender *sender = &flow->sender;
  if (acked > 0) {
    sender->duplicates = 0;
    if (sender->recovering && !sender->timed_out && sender->nxt != sender->una) tg_lose_first(flow);
  } else if (report->pure && flow->pcb->snd_wnd == report->window && sender->nxt != sender->una) {
    if (sender->duplicates < 255) sender->duplicates++;
    if (sender->duplicates == TG_DUPLICATES && !sender->recovering) tg_lose_first(flow);
  }
}

/*
 * The time-out was too early: what it took for lost has arrived without being sent again, or sooner than the second copy can
 * (RFC 5682 and RFC 3522 in spirit). What arrived before that may have been a first copy as well: its time tells nothing.
 * Once for what was in flight then: a path that has become shorter looks the same, and what it lost is still to be repaired.
 */
static void undo(struct tg_sender *sender)
{
  for (u32_t index = 0; index < sender->span_count; index++) {
    const struct tg_span *span = tg_span_at(sender, index);
    if (span->state == TG_LOST && !span->resent) tg_span_set(sender, index, TG_SENT);
  }
  tg_spans_tidy(sender);
  sender->rack_rtt_us = 0;
  sender->undone = 1;
  sender->undone_end = sender->recovery_point;
  end_recovery(sender);
  tg_congestion_undo(sender);
}

static void forward(struct tg_flow *flow, u32_t acked, struct arrival *got)
{
  struct tg_sender *sender = &flow->sender;
  take_acked(sender, sender->una + acked, got);
  if (sender->has_fin && sender->una == sender->nxt) {
    sender->has_fin = 0;
    acked--;
  }
  tg_acked(flow, acked);
  sender->backoff = sender->tries = 0;
  if (sender->undone && TCP_SEQ_GEQ(sender->una, sender->undone_end)) sender->undone = 0;
  if (sender->probing && TCP_SEQ_GEQ(sender->una, sender->probe_end)) sender->probing = 0;
  if (sender->recovering && TCP_SEQ_GEQ(sender->una, sender->recovery_point)) end_recovery(sender);
}

void tg_reported(struct tg_flow *flow, const struct tg_report *report)
{
  struct tg_sender *sender = &flow->sender;
  struct tcp_pcb *pcb = flow->pcb;
  if (!sender->open) return;
  u32_t acked = pcb->lastack - sender->una;
  struct arrival got = {0};
  if (acked > 0) forward(flow, acked, &got);
  if (report->blocks > 0 && sender->span_count > 0) take_blocks(flow, report, &got);
  if (!(pcb->flags & TF_SACK)) count_duplicates(flow, report, acked);
  if (got.spurious && sender->timed_out && !sender->undone) undo(sender);
  if (got.delivered > 0) {
    sender->progress_at = sender->probe_base_at = tg_now_us;
    if (got.timed) tg_congestion_rtt(sender, LWIP_MAX((u32_t)tg_now_us - got.newest_us, 1));
    tg_congestion_delivered(sender, got.delivered, flow->peer_mss);
  }
  if (pcb->snd_wnd == 0 || report->window == 0) {
    sender->tries = 0;
    if (pcb->snd_wnd > 0) sender->backoff = 0;
  }
  if ((pcb->flags & TF_SACK) && (sender->sacked > 0 || sender->recovering)) tg_find_lost(flow);
  if (sender->lost > 0 || sender->unsent > 0 || sender->timer != TG_TIMER_NONE) tg_send(flow);
}
