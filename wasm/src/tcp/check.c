/*
 * What must be true of a segment before lwIP sees it. lwIP believes acknowledgements of what was never sent, segments
 * without any, a SYN's options in the middle of a stream, and data beyond its window; and it answers each mistake.
 */
#include "tungate.h"

/* Answers to segments that are not acceptable: one flow has one in this time (Linux: tcp_invalid_ratelimit) … */
#define CHALLENGE_MS 500
/* … and all flows together so many a second; how many exactly shall nobody be able to count (CVE-2016-5696). */
#define CHALLENGES_LEAST 500
#define CHALLENGES_SPREAD 1000

/*
 * 0: a length in the list lies. With `synchronized`, what only a SYN may say is blanked (RFC 9293 3.2), because lwIP would
 * take a new MSS from any segment.
 */
int tg_tcp_options(u8_t *at, u32_t bytes, int synchronized)
{
  for (u8_t *end = at + bytes; at < end;) {
    u32_t kind = *at;
    if (kind == LWIP_TCP_OPT_NOP) {
      at++;
      continue;
    }
    if (kind == LWIP_TCP_OPT_EOL) return 1;
    u32_t left = (u32_t)(end - at), length = left > 1 ? at[1] : 0;
    if (length < 2 || length > left) return 0;
    if (synchronized && kind <= LWIP_TCP_OPT_SACK_PERM) memset(at, LWIP_TCP_OPT_NOP, length);
    at += length;
  }
  return 1;
}

static int challenge_allowed(void)
{
  static u64_t until_ms;
  static u32_t left;
  if (tg_now_ms >= until_ms) {
    until_ms = tg_now_ms + 1000;
    left = CHALLENGES_LEAST + LWIP_RAND() % (CHALLENGES_SPREAD + 1);
  }
  if (left == 0) return 0;
  left--;
  return 1;
}

/* One more answer to this flow is within the limits. */
static int answer_allowed(struct tg_flow *flow)
{
  if (flow->challenged_ms != 0 && tg_now_ms - flow->challenged_ms < CHALLENGE_MS) return 0;
  if (!challenge_allowed()) return 0;
  flow->challenged_ms = tg_now_ms;
  return 1;
}

/* RFC 5961 7: an acknowledgement that says what would have been right, not too often. Always 0. */
static int challenge(struct tg_flow *flow)
{
  TG_COUNT(drop_sequence);
  if (!answer_allowed(flow)) return 0;
  TG_COUNT(challenge_acks);
  tg_pcb_wake(flow);
  tcp_send_empty_ack(flow->pcb);
  return 0;
}

static int ignore(void)
{
  TG_COUNT(drop_sequence);
  return 0;
}

/* Segments with SYN or RST, or without ACK, `ahead` of what is expected next. */
static int control(struct tg_flow *flow, u32_t flags, u32_t ahead)
{
  const struct tcp_pcb *pcb = flow->pcb;
  if (flags & TCP_RST) { /* RFC 5961 3.2; in TIME_WAIT none counts (RFC 1337) */
    if (pcb->state == TIME_WAIT) return ignore();
    if (ahead == 0) return 1;
    return ahead <= pcb->rcv_wnd ? challenge(flow) : ignore();
  }
  if (flags & TCP_SYN) { /* RFC 5961 4.2 */
    int is_repeated = pcb->state == SYN_RCVD && !(flags & TCP_ACK) && ahead == 0xffffffff;
    if (!is_repeated) return challenge(flow);
    if (flow->challenged_ms != 0 && tg_now_ms - flow->challenged_ms < CHALLENGE_MS) return ignore();
    flow->challenged_ms = tg_now_ms; /* lwIP counts each SYN-ACK that it sends again, and gives up */
    return 1;
  }
  return ignore(); /* RFC 9293 3.10.7.4, fifth */
}

/*
 * Cuts off what is beyond the window, FIN included, where lwIP asserts that nothing is. One byte less with segments that wait
 * for others: lwIP may move their FIN to this one.
 */
static void trim(struct pbuf *p, struct tcp_hdr *header, u32_t room)
{
  u32_t header_bytes = TCPH_HDRLEN_BYTES(header);
  if (header_bytes + room < p->tot_len) pbuf_realloc(p, (u16_t)(header_bytes + room));
  TCPH_UNSET_FLAG(header, TCP_FIN);
}

/* Whether lwIP may have this segment of a flow with a PCB; if not, it is counted, and answered as it should be. */
int tg_tcp_acceptable(struct tg_flow *flow, struct pbuf *p, struct tcp_hdr *header)
{
  const struct tcp_pcb *pcb = flow->pcb;
  u32_t flags = TCPH_FLAGS(header), ahead = lwip_ntohl(header->seqno) - pcb->rcv_nxt;
  if ((flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK) return control(flow, flags, ahead);
  if (pcb->state == TIME_WAIT) { /* lwIP acknowledges what has a length, and waits anew for a FIN (RFC 9293 3.10.7.4) */
    int has_length = p->tot_len > TCPH_HDRLEN_BYTES(header) || (flags & TCP_FIN);
    return !has_length || answer_allowed(flow) ? 1 : ignore();
  }

  /* RFC 5961 5.2; before the client has acknowledged the SYN a wrong one is answered by RST, by lwIP. */
  u32_t oldest = pcb->lastack - pcb->snd_wnd_max;
  if (lwip_ntohl(header->ackno) - oldest > pcb->snd_nxt - oldest && pcb->state != SYN_RCVD) return challenge(flow);

  /* A client repeats nothing that is further than a window behind, and sends nothing beyond the window. */
  if (ahead + TCP_WND > TCP_WND + pcb->rcv_wnd) return challenge(flow);

  u32_t length = p->tot_len - TCPH_HDRLEN_BYTES(header) + (flags & TCP_FIN);
  s32_t room = (s32_t)(pcb->rcv_wnd - ahead) - (pcb->ooseq != NULL);
  if ((s32_t)length > room && room >= 0 && length > 0) trim(p, header, (u32_t)room);
  return 1;
}
