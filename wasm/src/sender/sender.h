/*
 * The sender's half of a flow: what was sent to the client, when, and what became of it. lwIP has no part in it but for the
 * handshake (ARCHITECTURE.md). Times are microseconds; sequences are the client's to acknowledge.
 */
#ifndef TUNGATE_SENDER_H
#define TUNGATE_SENDER_H

#include "lwip/arch.h"

#define TG_NEVER 0xffffffffu /* of a time, or a bound: there was none yet */

/* In flight at first, or small: no memory of its own is needed. */
#define TG_FEW_SPANS 4
/* At the bound a SACK is not believed; its bytes are sent again when they are due. */
#define TG_MAX_SPANS 1024
#define TG_ANY_SPANS 64 /* each flow may have so many; more where as much is in flight, within TG_SPAN_BUDGET */
#define TG_SPAN_BUDGET (8u << 20) /* memory of spans, all flows */
#define TG_RESENT_KEPT 16
#define TG_DUPLICATES 3 /* segments behind a gap that make it a loss where nothing overtakes (RFC 5681 3.2) */

enum tg_span_state { TG_SENT, TG_SACKED, TG_LOST };

/* Bytes from `start` up to the next span's start, or up to `nxt`. Spans lie side by side and cover all that is in flight. */
struct tg_span {
  u32_t start;
  u32_t sent_us; /* the last time */
  u8_t state, resent;
};

enum tg_timer { TG_TIMER_NONE, TG_TIMER_REORDER, TG_TIMER_PROBE, TG_TIMER_TIMEOUT, TG_TIMER_PERSIST };

struct tg_flow;

struct tg_sender {
  u32_t una, nxt; /* SND.UNA, SND.NXT (RFC 9293 3.3.1) */
  u32_t unsent;   /* bytes in chunks that were never sent */
  u32_t mss;      /* the client's */
  struct tg_chunk *next_chunk; /* the first with such bytes */
  u8_t open, has_fin;          /* the last sequence in flight is a FIN */

  /* what is in flight (recovery.c) */
  struct tg_span *spans; /* `few` or memory of its own */
  u32_t first_span, span_count, span_room;
  u32_t sacked, lost; /* bytes in spans of that state */
  u32_t fack;         /* behind the highest SACKed byte */
  u32_t rack_us, rack_end, rack_rtt_us; /* of what was sent last and has arrived (RFC 8985 5.2) */
  u32_t recovery_point, probe_end, spurious_end, undone_end;
  u32_t resent[TG_RESENT_KEPT]; /* where the last retransmissions began */
  u32_t resent_count;
  u8_t recovering, timed_out, undone, probing, duplicates;
  u8_t reordering, reorder_mult, reorder_persist;
  u8_t backoff, tries; /* time-outs since the last progress: for their distance, and to give up */
  u8_t timer;
  u64_t timer_at, reorder_at, progress_at, probe_base_at;
  struct tg_flow *reorder_prev, *reorder_next; /* among those with TG_TIMER_REORDER */

  /* round trips and the congestion window (congestion.c) */
  u32_t srtt_us, rttvar_us;
  u32_t min_rtt_us, next_min_rtt_us; /* the lowest of these and of the last ten seconds */
  u32_t cwnd, ssthresh, initial_window, cwnd_before;
  u64_t round_at, base_at;
  u32_t round_delivered, round_lost, round_rtt_us, round_rtts;
  u32_t base_us, next_base_us; /* the lowest mean round trip of these and of the last ten seconds */
  u32_t loss_share;            /* of what was sent lately, in 1/1024 */
  u8_t limited, queueing;      /* by the window, in this round; round trips tell of a queue */

  struct tg_span few[TG_FEW_SPANS];
};

/* What an arriving segment says of what was sent, read before lwIP has it. */
struct tg_report {
  u32_t blocks, left[4], right[4];
  u32_t window; /* before it */
  u8_t pure;    /* it is an ACK and nothing else */
};

/* ---- sender.c ---- */
void tg_sender_open(struct tg_flow *flow);
void tg_sender_free(struct tg_flow *flow);
void tg_send(struct tg_flow *flow);
u32_t tg_send_piece(struct tg_flow *flow, u32_t sequence, u32_t bytes);
u32_t tg_send_new(struct tg_flow *flow, u32_t bytes);
u32_t tg_send_window(const struct tg_flow *flow);
u32_t tg_in_flight(const struct tg_sender *sender);
void tg_send_fin(struct tg_flow *flow);
void tg_send_reset(struct tg_flow *flow);
void tg_sender_tick(struct tg_flow *flow);

/* ---- spans.c ---- */
void tg_span_add(struct tg_sender *sender, u32_t start);
int tg_span_split(struct tg_sender *sender, u32_t index, u32_t sequence);
u32_t tg_span_find(const struct tg_sender *sender, u32_t sequence);
struct tg_span *tg_span_at(const struct tg_sender *sender, u32_t index);
u32_t tg_span_end(const struct tg_sender *sender, u32_t index);
void tg_span_set(struct tg_sender *sender, u32_t index, u8_t state);
void tg_span_acked(struct tg_sender *sender, u32_t sequence);
void tg_spans_tidy(struct tg_sender *sender);
void tg_spans_free(struct tg_sender *sender);

/* ---- arrivals.c ---- */
struct tcp_hdr;
void tg_report_read(struct tg_report *report, const struct tg_flow *flow, const struct tcp_hdr *header, u32_t data);
void tg_reported(struct tg_flow *flow, const struct tg_report *report);

/* ---- recovery.c ---- */
void tg_find_lost(struct tg_flow *flow);
void tg_lose_first(struct tg_flow *flow);
void tg_resend(struct tg_flow *flow);
void tg_recovery_timer(struct tg_flow *flow);
void tg_recovery_arm(struct tg_flow *flow);
void tg_recovery_disarm(struct tg_flow *flow);
void tg_recovery_hurry(void);
extern u32_t tg_reorder_timers;

/* ---- congestion.c ---- */
void tg_congestion_open(struct tg_sender *sender, u32_t initial_window);
void tg_congestion_idle(struct tg_sender *sender);
void tg_congestion_rtt(struct tg_sender *sender, u32_t rtt_us);
void tg_congestion_delivered(struct tg_sender *sender, u32_t bytes, u32_t mss);
void tg_congestion_timeout(struct tg_sender *sender, u32_t mss);
void tg_congestion_undo(struct tg_sender *sender);
u32_t tg_rto_us(const struct tg_sender *sender);

#endif
