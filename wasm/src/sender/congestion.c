/*
 * How much a flow may have in flight, by its congestion window. Slow start (RFC 5681) until there is congestion; from then on
 * it is decided once a round trip:
 *
 *   loss, and a queue or many losses   what arrived in a round trip without the queue (after TCP Westwood), 0.5 to 0.85 of
 *                                      the window
 *   a window that was used, no queue   a sixteenth more
 *   a window that was used, a queue    one segment more
 *
 * A loss alone, with round trips as short as ever, is the line's: halving for it, a flow would stand still where a twentieth
 * is lost. A queue is a mean round trip that is longer than the shortest of late by a quarter and by QUEUE_US.
 */
#include "tungate.h"

#define QUEUE_US 3000
#define MIN_ROUND_US 1000
#define BASE_AGE_US 10000000
#define MANY_LOSSES 128 /* of 1024 */
#define MIN_SEGMENTS 4
#define RTO_MIN_US 200000
#define RTO_FIRST_US 1000000
#define RTO_MAX_US 60000000

void tg_congestion_open(struct tg_sender *sender, u32_t initial_window)
{
  sender->initial_window = sender->cwnd = initial_window;
  sender->ssthresh = TG_NEVER;
  sender->base_us = sender->next_base_us = sender->min_rtt_us = sender->next_min_rtt_us = TG_NEVER;
  sender->round_at = sender->base_at = tg_now_us;
}

/* RFC 6298 2; the variance has a floor, as a client may wait before it acknowledges. */
u32_t tg_rto_us(const struct tg_sender *sender)
{
  if (sender->srtt_us == 0) return RTO_FIRST_US;
  return LWIP_MIN(sender->srtt_us + LWIP_MAX(4 * sender->rttvar_us, RTO_MIN_US), RTO_MAX_US);
}

void tg_congestion_rtt(struct tg_sender *sender, u32_t rtt_us)
{
  rtt_us = LWIP_MIN(LWIP_MAX(rtt_us, 1), RTO_MAX_US);
  if (sender->srtt_us == 0) {
    sender->srtt_us = rtt_us;
    sender->rttvar_us = rtt_us / 2;
  } else {
    u32_t off = rtt_us > sender->srtt_us ? rtt_us - sender->srtt_us : sender->srtt_us - rtt_us;
    sender->rttvar_us += off / 4 - sender->rttvar_us / 4;
    sender->srtt_us += rtt_us / 8 - sender->srtt_us / 8;
  }
  sender->min_rtt_us = LWIP_MIN(sender->min_rtt_us, rtt_us);
  sender->next_min_rtt_us = LWIP_MIN(sender->next_min_rtt_us, rtt_us);
  sender->round_rtt_us += rtt_us;
  sender->round_rtts++;
}

static void look_for_queue(struct tg_sender *sender)
{
  if (sender->round_rtts == 0) return;
  u32_t mean = sender->round_rtt_us / sender->round_rtts;
  if (tg_now_us - sender->base_at > BASE_AGE_US) {
    sender->base_us = sender->next_base_us;
    sender->next_base_us = TG_NEVER;
    sender->min_rtt_us = sender->next_min_rtt_us;
    sender->next_min_rtt_us = TG_NEVER;
    sender->base_at = tg_now_us;
  }
  sender->next_base_us = LWIP_MIN(sender->next_base_us, mean);
  sender->base_us = LWIP_MIN(sender->base_us, mean);
  sender->queueing = mean - sender->base_us > LWIP_MAX(sender->base_us / 4, QUEUE_US);
}

static void yield(struct tg_sender *sender, u32_t elapsed_us, u32_t mss)
{
  u64_t fair = (u64_t)sender->round_delivered * LWIP_MIN(sender->base_us, elapsed_us) / elapsed_us;
  u32_t most = sender->cwnd - sender->cwnd / 7, least = LWIP_MAX(sender->cwnd / 2, MIN_SEGMENTS * mss);
  sender->cwnd = (u32_t)LWIP_MAX(LWIP_MIN(fair, most), least);
  sender->ssthresh = sender->cwnd;
}

static void end_round(struct tg_sender *sender, u32_t elapsed_us, u32_t mss)
{
  look_for_queue(sender);
  u32_t sent = sender->round_delivered + sender->round_lost;
  u32_t share = sent > 0 ? (u32_t)(((u64_t)sender->round_lost << 10) / sent) : 0;
  sender->loss_share += share / 4 - sender->loss_share / 4;
  if (sender->round_lost > 0 && (sender->queueing || sender->loss_share > MANY_LOSSES)) yield(sender, elapsed_us, mss);
  else if (sender->limited && sender->cwnd >= sender->ssthresh)
    sender->cwnd += sender->queueing ? mss : LWIP_MAX(sender->cwnd / 16, mss);
  sender->cwnd = LWIP_MIN(sender->cwnd, 2 * TG_TX_FLOW_MAX);
  sender->round_at = tg_now_us;
  sender->round_delivered = sender->round_lost = sender->round_rtt_us = sender->round_rtts = 0;
  sender->limited = 0;
}

void tg_congestion_delivered(struct tg_sender *sender, u32_t bytes, u32_t mss)
{
  sender->round_delivered += bytes;
  /* RFC 9002 7.8: a window that is not used does not grow */
  if (sender->cwnd < sender->ssthresh && 2 * (tg_in_flight(sender) + bytes) >= sender->cwnd)
    sender->cwnd = LWIP_MIN(sender->cwnd + bytes, 2 * TG_TX_FLOW_MAX);
  u64_t elapsed = tg_now_us - sender->round_at;
  if (elapsed >= LWIP_MAX(sender->srtt_us, MIN_ROUND_US))
    end_round(sender, (u32_t)LWIP_MIN(elapsed, RTO_MAX_US), mss);
}

/* RFC 5681 4.1: after a rest nothing is known of the path. */
void tg_congestion_idle(struct tg_sender *sender)
{
  if (tg_now_us - sender->progress_at > tg_rto_us(sender))
    sender->cwnd = LWIP_MIN(sender->cwnd, sender->initial_window);
  sender->progress_at = sender->probe_base_at = sender->round_at = tg_now_us;
  sender->round_delivered = sender->round_lost = 0;
}

void tg_congestion_timeout(struct tg_sender *sender, u32_t mss)
{
  if (!sender->timed_out) {
    sender->cwnd_before = sender->cwnd;
    sender->ssthresh = LWIP_MAX(sender->cwnd / 2, MIN_SEGMENTS * mss);
  }
  sender->cwnd = mss;
}

void tg_congestion_undo(struct tg_sender *sender)
{
  sender->cwnd = LWIP_MAX(sender->cwnd, sender->cwnd_before);
  sender->ssthresh = LWIP_MAX(sender->ssthresh, sender->cwnd_before);
}
