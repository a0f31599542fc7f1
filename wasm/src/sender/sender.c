/*
 * Segments of data to a client, made here from the chunks of its flow (sender/send.c), as many as the client's window and the
 * congestion window allow. With offload a packet is a super-segment, which the kernel cuts at the client's MSS.
 *
 * Nagle's algorithm is off. A segment smaller than the MSS leaves when it is all there is to send, or when nothing is in
 * flight and the window has no room for more (RFC 9293 3.8.6.2.1).
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"

/* A packet that is not a super-segment has one piece or two; the egress table has room for this many. */
#define MAX_PIECES 32
#define PERSIST_MAX_SHIFT 6

static u16_t identification;

void tg_sender_open(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  struct tcp_pcb *pcb = flow->pcb;
  sender->una = sender->nxt = sender->fack = sender->spurious_end = pcb->snd_nxt;
  tg_spans_free(sender);
  sender->reorder_mult = 1;
  sender->open = 1;
  sender->mss = flow->peer_mss;
  /* RFC 6928; with offload two super-segments: such a client is mostly on this machine. */
  u32_t mss = flow->peer_mss, initial = LWIP_MIN(10 * mss, LWIP_MAX(2 * mss, 14600));
  tg_congestion_open(sender, tg_config.vnet ? LWIP_MAX(initial, 2u * pcb->mss) : initial);
  /* RFC 6298 5.1, where the SYN-ACK was sent once. */
  if (pcb->nrtx == 0) tg_congestion_rtt(sender, (u32_t)(tg_now_us - flow->opening_us));
}

void tg_sender_free(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  tg_recovery_disarm(flow);
  tg_spans_free(sender);
  sender->open = 0;
  sender->unsent = 0;
  sender->next_chunk = NULL;
}

/* Bytes that are on their way, as far as is known (RFC 6675: pipe). */
u32_t tg_in_flight(const struct tg_sender *sender)
{
  return sender->nxt - sender->una - sender->sacked - sender->lost;
}

/* Bytes that the client's window still has room for. */
u32_t tg_send_window(const struct tg_flow *flow)
{
  u32_t used = flow->sender.nxt - flow->sender.una, window = flow->pcb->snd_wnd;
  return window > used ? window - used : 0;
}

/* ---- one packet ---- */

static u32_t ip_header_bytes(u32_t family)
{
  return family == 6 ? IP6_HLEN : IP_HLEN;
}

static void write_ip(u8_t *packet, const struct tg_flow *flow, u32_t tcp_bytes)
{
  if (flow->family == 6) {
    struct ip6_hdr *ip = (struct ip6_hdr *)packet;
    IP6H_VTCFL_SET(ip, 6, 0, 0);
    IP6H_PLEN_SET(ip, (u16_t)tcp_bytes);
    IP6H_NEXTH_SET(ip, IP6_NEXTH_TCP);
    IP6H_HOPLIM_SET(ip, flow->pcb->ttl);
    memcpy(&ip->src, flow->dest, 16);
    memcpy(&ip->dest, flow->client, 16);
    return;
  }
  struct ip_hdr *ip = (struct ip_hdr *)packet;
  IPH_VHL_SET(ip, 4, IP_HLEN / 4);
  IPH_TOS_SET(ip, 0);
  IPH_LEN_SET(ip, lwip_htons((u16_t)(IP_HLEN + tcp_bytes)));
  IPH_ID_SET(ip, lwip_htons(identification++));
  IPH_OFFSET_SET(ip, 0);
  IPH_TTL_SET(ip, flow->pcb->ttl);
  IPH_PROTO_SET(ip, IP_PROTO_TCP);
  IPH_CHKSUM_SET(ip, 0);
  memcpy(&ip->src, flow->dest, 4);
  memcpy(&ip->dest, flow->client, 4);
  IPH_CHKSUM_SET(ip, inet_chksum(ip, IP_HLEN));
}

/* The acknowledgement that it carries is as good as any. */
static void write_tcp(struct tcp_hdr *tcp, struct tg_flow *flow, u32_t sequence, u8_t flags)
{
  struct tcp_pcb *pcb = flow->pcb;
  tcp->src = lwip_htons((u16_t)flow->dest_port);
  tcp->dest = lwip_htons((u16_t)flow->client_port);
  tcp->seqno = lwip_htonl(sequence);
  tcp->ackno = lwip_htonl(pcb->rcv_nxt);
  TCPH_HDRLEN_FLAGS_SET(tcp, TCP_HLEN / 4, flags);
  tcp->wnd = lwip_htons(TCPWND_MIN16(RCV_WND_SCALE(pcb, pcb->rcv_ann_wnd)));
  tcp->chksum = 0;
  tcp->urgp = 0;
  pcb->rcv_ann_right_edge = pcb->rcv_nxt + pcb->rcv_ann_wnd;
  tcp_clear_flags(pcb, TF_ACK_DELAY | TF_ACK_NOW);
}

/* Adds the sum of bytes that begin at an odd or an even place (RFC 1071). */
static u32_t add_sum(u32_t sum, const u8_t *bytes, u32_t length, u32_t place)
{
  u32_t part = tg_checksum(bytes, (int)length);
  if (place & 1) part = (part & 0xff) << 8 | part >> 8;
  sum += part;
  return (sum & 0xffff) + (sum >> 16);
}

/*
 * `bytes` of data (at most a super-segment's) from `offset` in `chunk` on, as one packet. With `flags` the FIN may stand
 * behind them. How many were queued, which is fewer when they lie in too many pieces; `whole` says whether there was room.
 */
static u32_t emit(struct tg_flow *flow, u32_t sequence, const struct tg_chunk *chunk, u32_t offset, u32_t bytes,
                  u8_t flags, int *whole)
{
  const u8_t *at[MAX_PIECES];
  u32_t length[MAX_PIECES], pieces = 0, data = 0;
  for (; data < bytes && pieces < MAX_PIECES; chunk = chunk->next, offset = 0) {
    at[pieces] = tg_chunk_bytes(chunk) + offset;
    length[pieces] = LWIP_MIN(bytes - data, chunk->filled - offset);
    data += length[pieces++];
  }
  u32_t ip_bytes = ip_header_bytes(flow->family), header = ip_bytes + TCP_HLEN;
  u8_t *packet = tg_egress_new(header, pieces > 0 ? at[0] : NULL, pieces > 0 ? length[0] : 0);
  *whole = packet != NULL;
  if (packet == NULL) return 0;
  for (u32_t piece = 1; piece < pieces; piece++) tg_egress_append(at[piece], length[piece]);
  write_ip(packet, flow, TCP_HLEN + data);
  struct tcp_hdr *tcp = (struct tcp_hdr *)(packet + ip_bytes);
  if (data < bytes) flags &= (u8_t)~(TCP_FIN | TCP_PSH);
  write_tcp(tcp, flow, sequence, flags);
  u32_t address_bytes = flow->family == 6 ? 32 : 8;
  u32_t sum = tg_pseudo_sum(packet + ip_bytes - address_bytes, address_bytes, IP_PROTO_TCP, TCP_HLEN + data);
  if (tg_config.vnet) {
    tcp->chksum = (u16_t)sum;
    u32_t row = tg_egress.packets - 1;
    tg_egress_partial(row, ip_bytes, 16);
    tg_egress_super(row, flow->family, header, data > flow->peer_mss ? flow->peer_mss : 0);
    return data;
  }
  sum = add_sum(sum, (const u8_t *)tcp, TCP_HLEN, 0);
  u32_t place = 0;
  for (u32_t piece = 0; piece < pieces; place += length[piece++]) sum = add_sum(sum, at[piece], length[piece], place);
  sum = (sum & 0xffff) + (sum >> 16);
  tcp->chksum = (u16_t)~sum;
  return data;
}

/* The most data that one packet takes. */
static u32_t packet_bytes(const struct tg_flow *flow)
{
  return tg_config.vnet ? TCP_MSS / flow->peer_mss * flow->peer_mss : flow->peer_mss;
}

/*
 * Sends bytes again from `sequence` on, at most `bytes` (a FIN counts one) and at most a packet. How many, 0 when there is no
 * room in the egress table.
 */
u32_t tg_send_piece(struct tg_flow *flow, u32_t sequence, u32_t bytes)
{
  const struct tg_sender *sender = &flow->sender;
  u32_t data_end = sender->nxt - sender->has_fin;
  u32_t left = data_end - sequence; /* 0 for the FIN alone */
  int with_fin = sender->has_fin && bytes > left && left <= packet_bytes(flow);
  u32_t data = LWIP_MIN(LWIP_MIN(bytes, left), packet_bytes(flow));
  u32_t offset = sequence - sender->una;
  const struct tg_chunk *chunk = flow->tx_head;
  while (data > 0 && offset >= chunk->filled - chunk->acked) {
    offset -= chunk->filled - chunk->acked;
    chunk = chunk->next;
  }
  u8_t flags = with_fin ? TCP_ACK | TCP_PSH | TCP_FIN : TCP_ACK | TCP_PSH;
  int room;
  u32_t sent = emit(flow, sequence, chunk, data > 0 ? offset + chunk->acked : 0, data, flags, &room);
  if (!room) return 0;
  return with_fin && sent == data ? sent + 1 : sent;
}

/* Sends up to `bytes` that were never sent, in one packet. How many, 0 when there is no room in the egress table. */
u32_t tg_send_new(struct tg_flow *flow, u32_t bytes)
{
  struct tg_sender *sender = &flow->sender;
  bytes = LWIP_MIN(LWIP_MIN(bytes, sender->unsent), packet_bytes(flow));
  struct tg_chunk *chunk = sender->next_chunk;
  int room;
  u8_t flags = bytes == sender->unsent ? TCP_ACK | TCP_PSH : TCP_ACK;
  u32_t sent = emit(flow, sender->nxt, chunk, chunk->written, bytes, flags, &room);
  if (!room) return 0;
  tg_span_add(sender, sender->nxt);
  sender->nxt += sent;
  flow->pcb->snd_nxt = flow->pcb->snd_lbb = sender->nxt;
  sender->unsent -= sent;
  for (u32_t left = sent; left > 0;) {
    u32_t part = LWIP_MIN(left, chunk->filled - chunk->written);
    chunk->written += part;
    left -= part;
    if (chunk->written == chunk->filled) chunk = chunk->next;
  }
  sender->next_chunk = sender->unsent > 0 ? chunk : NULL;
  return sent;
}

/* ---- how much ---- */

/*
 * Bytes of new data that may leave now. Of a window that opens by small steps not each is used: a super-segment costs as
 * much as a small one, and what is in flight will open it further.
 */
static u32_t allowed(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  u32_t flight = tg_in_flight(sender), mss = flow->peer_mss;
  u32_t by_client = tg_send_window(flow);
  u32_t by_path = sender->cwnd > flight ? sender->cwnd - flight : 0;
  u32_t most = LWIP_MIN(by_client, by_path);
  if (most >= sender->unsent) return sender->unsent;
  if (by_path <= by_client) sender->limited = 1;
  u32_t window = LWIP_MIN(flow->pcb->snd_wnd, sender->cwnd);
  if (flight > 0 && most < LWIP_MIN(packet_bytes(flow), window / 4)) return 0;
  if (most >= mss) return most / mss * mss;
  return most >= flow->pcb->snd_wnd_max / 2 ? most : 0;
}

/* Sends what may be sent, lost bytes first, and sets the timer. */
void tg_send(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (!sender->open || flow->pcb == NULL) return;
  if (sender->lost > 0) tg_resend(flow);
  if (sender->unsent > 0 && sender->lost == 0) {
    if (sender->nxt == sender->una) tg_congestion_idle(sender);
    for (u32_t left = allowed(flow); left > 0;) {
      u32_t sent = tg_send_new(flow, left);
      if (sent == 0) break;
      left -= sent;
    }
  }
  tg_recovery_arm(flow);
}

/* It is recovered like data; also where the egress table has no room for it, as if it were lost on the way. */
void tg_send_fin(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  int room;
  if (sender->nxt == sender->una) tg_congestion_idle(sender);
  emit(flow, sender->nxt, NULL, 0, 0, TCP_ACK | TCP_FIN, &room);
  tg_span_add(sender, sender->nxt);
  flow->pcb->snd_nxt = flow->pcb->snd_lbb = ++sender->nxt;
  sender->has_fin = 1;
  tg_recovery_arm(flow);
}

/*
 * RST to the client, which takes no memory, as lwIP's would. A client obeys one only when its sequence is exactly the next that
 * it expects (RFC 5961 3.2). That is snd_nxt when it has taken all that was sent, and the last one that it acknowledged when its
 * window was full; so both are said.
 */
void tg_send_reset(struct tg_flow *flow)
{
  const struct tcp_pcb *pcb = flow->pcb;
  int room;
  if (pcb->lastack != pcb->snd_nxt) emit(flow, pcb->lastack, NULL, 0, 0, TCP_RST | TCP_ACK, &room);
  emit(flow, pcb->snd_nxt, NULL, 0, 0, TCP_RST | TCP_ACK, &room);
}

/* Asks a client whose window is closed whether it still is: a segment outside of its window must be answered. */
static void probe_window(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (sender->tries >= TCP_MAXRTX) flow->pcb->nrtx = TCP_MAXRTX; /* lwIP's next slow timer ends it */
  else {
    sender->tries++;
    if (sender->backoff < PERSIST_MAX_SHIFT) sender->backoff++;
    u32_t room = tg_send_window(flow);
    tg_congestion_idle(sender);
    if (room > 0) tg_send_new(flow, LWIP_MIN(room, flow->peer_mss));
    else tcp_keepalive(flow->pcb);
  }
  sender->timer_at = tg_now_us + ((u64_t)tg_rto_us(sender) << sender->backoff);
  if (sender->nxt != sender->una) tg_recovery_arm(flow);
}

/* Timers of a flow that waits for something. */
void tg_sender_tick(struct tg_flow *flow)
{
  struct tg_sender *sender = &flow->sender;
  if (!sender->open) return;
  if (sender->timer != TG_TIMER_NONE && tg_now_us >= sender->timer_at) {
    if (sender->timer == TG_TIMER_PERSIST) probe_window(flow);
    else tg_recovery_timer(flow);
  } else if (sender->unsent > 0 && sender->timer == TG_TIMER_NONE) tg_send(flow); /* the egress table was full */
}
