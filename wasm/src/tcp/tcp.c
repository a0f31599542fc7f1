/*
 * TCP: from a segment to its flow, and a flow from the client's ACK to its end.
 *
 *   SYN ──▶ HELD ──accept──▶ OPENING ──ACK──▶ OPEN ──FINs or RST──▶ GONE ──release──▶ (slot free when lwIP let go)
 *             └─refuse: RST, ICMP or silence
 *
 * What comes before OPEN is tcp/open.c. lwIP stays unpatched: each segment of a flow is looked at here before lwIP has it.
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"

/* The client's side is over. */
void tg_gone(struct tg_flow *flow, u32_t error)
{
  if (flow->state == TG_GONE) return;
  flow->state = TG_GONE;
  flow->error = error;
  tg_dial_end(&flow->dial);
  tg_event(flow, TG_EV_GONE);
}

/* The slot is free again when both the host and lwIP have let go. */
static void maybe_free(struct tg_flow *flow)
{
  if (flow->released && flow->pcb == NULL) tg_flow_free(flow);
}

/* ---- what lwIP says ---- */

static err_t on_receive(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
  (void)pcb;
  (void)err;
  struct tg_flow *flow = arg;
  if (p != NULL) tg_receive(flow, p);
  else tg_event(flow, TG_EV_FIN);
  return ERR_OK;
}

/*
 * The FIN goes out in a segment of its own, when all data has been sent once and the client's window reaches to it. Until then
 * something is in flight or unsent, whose acknowledgement leads back here. lwIP is told of the state that follows, and no more:
 * in its queues its own timers, which know nothing of the data, would take care of the FIN.
 */
void tg_finish(struct tg_flow *flow)
{
  struct tcp_pcb *pcb = flow->pcb;
  if (!flow->finishing || pcb == NULL || flow->sender.unsent > 0) return;
  if (flow->sender.nxt - flow->sender.una > pcb->snd_wnd) return;
  flow->finishing = 0;
  if (pcb->state != ESTABLISHED && pcb->state != CLOSE_WAIT) return;
  tg_pcb_wake(flow);
  pcb->state = pcb->state == ESTABLISHED ? FIN_WAIT_1 : LAST_ACK;
  tg_send_fin(flow);
}

/* The PCB is gone, or goes right after this call. */
static void on_error(void *arg, err_t err)
{
  struct tg_flow *flow = arg;
  if (flow == NULL) return;
  tg_gone(flow, err == ERR_CLSD ? TG_ERR_NONE : err == ERR_RST ? TG_ERR_RESET : TG_ERR_TIMEOUT);
}

/*
 * The one reliable word that a PCB does not exist any more, whatever the reason. A reset and an end are told by on_error
 * before, so what is new here is a timer of lwIP that gave up.
 */
void tg_pcb_destroyed(u8_t id, void *data)
{
  (void)id;
  struct tg_flow *flow = data;
  if (flow == NULL) return;
  tg_pcb_lost(flow);
  tg_sender_free(flow);
  tg_send_free(flow);
  tg_gone(flow, TG_ERR_TIMEOUT);
  maybe_free(flow);
}

/* lwIP has made the PCB of a flow whose SYN it was given. */
void tg_flow_follow(struct tg_flow *flow, struct tcp_pcb *pcb)
{
  flow->pcb = pcb;
  tcp_arg(pcb, flow);
  tcp_recv(pcb, on_receive);
  tcp_err(pcb, on_error);
}

/* ---- segments ---- */

/*
 * A finished flow of the same names gives way to a SYN: one that is over, and waits for the host to see it; one in
 * TIME_WAIT to a newer SYN (RFC 1122 4.2.2.13).
 */
static int gives_way(struct tg_flow *flow, const struct tcp_hdr *header)
{
  struct tcp_pcb *pcb = flow->pcb;
  if (flow->state != TG_GONE || (pcb != NULL && pcb->state != TIME_WAIT)) return 0;
  if (pcb != NULL && !TCP_SEQ_GEQ(lwip_ntohl(header->seqno), pcb->rcv_nxt)) return 0;
  tg_flow_unlink(flow);
  if (pcb != NULL) tcp_abort(pcb);
  return 1;
}

/* A segment in order that acknowledges nothing, or what is in flight: nearly all are. */
static int is_expected(const struct tcp_pcb *pcb, u32_t flags, u32_t ahead, u32_t data, u32_t acknowledged)
{
  return ahead == 0 && (flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK && data + (flags & TCP_FIN) < pcb->rcv_wnd &&
         pcb->state != TIME_WAIT && acknowledged - pcb->lastack <= pcb->snd_nxt - pcb->lastack;
}

enum admitted { REFUSED, WHOLE, CUT };

/*
 * Whether lwIP may have `*p` now, of a flow with a PCB. Else it is freed, counted and answered. What lwIP may keep is
 * copied out of the tun's slot. CUT: without its data, which counts as lost; what it acknowledges has no part in that.
 */
static enum admitted admit(struct tg_flow *flow, struct pbuf **p, struct tcp_hdr *header, u32_t flags, u32_t header_bytes)
{
  const struct tcp_pcb *pcb = flow->pcb;
  u32_t ahead = lwip_ntohl(header->seqno) - pcb->rcv_nxt;
  u32_t data = (*p)->tot_len - header_bytes;
  if (!is_expected(pcb, flags, ahead, data, lwip_ntohl(header->ackno))) {
    if (!tg_tcp_acceptable(flow, *p, header)) {
      pbuf_free(*p);
      return REFUSED;
    }
    data = (*p)->tot_len - header_bytes;
  }
  if (data == 0 && !(flags & TCP_FIN)) return WHOLE;
  if (data > 0 && tg_receive_over_budget(flow)) {
    TG_COUNT(drop_receive_budget);
    pbuf_realloc(*p, (u16_t)header_bytes);
    TCPH_UNSET_FLAG(header, TCP_FIN);
    return CUT;
  }
  if ((s32_t)ahead > 0 && (*p = tg_out_of_order(flow, *p)) == NULL) {
    tg_pcb_wake(flow);
    tcp_send_empty_ack(flow->pcb); /* what is missing is known to the client, as if it had been kept */
    return REFUSED;
  }
  return WHOLE;
}

void tg_tcp_packet(struct pbuf *p, int vouched)
{
  struct tcp_hdr *header = p->payload;
  u32_t header_bytes = p->len < TCP_HLEN ? 0 : ((const u8_t *)header)[12] >> 4 << 2;
  if (header_bytes < TCP_HLEN || header_bytes > p->len) {
    TG_COUNT(drop_malformed);
    pbuf_free(p);
    return;
  }
  if (!vouched &&
      ip_chksum_pseudo(p, IP_PROTO_TCP, p->tot_len, ip_current_src_addr(), ip_current_dest_addr()) != 0) {
    TG_COUNT(drop_checksum);
    pbuf_free(p);
    return;
  }
  u8_t client[16], dest[16];
  tg_put_address(client, ip_current_src_addr());
  tg_put_address(dest, ip_current_dest_addr());
  struct tg_quote names = {.family = IP_IS_V6(ip_current_src_addr()) ? 6 : 4, .client = client, .dest = dest,
                           .client_port = lwip_ntohs(header->src), .dest_port = lwip_ntohs(header->dest)};
  struct tg_flow *flow = tg_flow_find(client, names.client_port, dest, names.dest_port, names.family);
  u32_t flags = ((const u8_t *)header)[13] & TCP_FLAGS;
  int is_syn = (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;

  if (is_syn && flow != NULL && gives_way(flow, header)) flow = NULL;
  int opens = is_syn && (flow == NULL || flow->state == TG_HELD);
  if (header_bytes > TCP_HLEN && !tg_tcp_options((u8_t *)(header + 1), header_bytes - TCP_HLEN, !opens)) {
    TG_COUNT(drop_malformed);
    pbuf_free(p);
    return;
  }
  if (opens) {
    tg_syn(flow, p, header, &names);
    pbuf_free(p);
    return;
  }
  if (flow != NULL && flow->state == TG_HELD) { /* only a RST of the SYN's own sequence means something here */
    if ((flags & TCP_RST) && lwip_ntohl(header->seqno) == flow->isn + 1) tg_gone(flow, TG_ERR_RESET);
    pbuf_free(p);
    return;
  }
  enum admitted admitted = WHOLE;
  if (flow != NULL && flow->pcb != NULL) admitted = admit(flow, &p, header, flags, header_bytes);
  if (admitted == REFUSED) return;
  tg_pcb_input(flow, p, admitted == CUT);
  if (flow != NULL && flow->pcb != NULL && flow->pcb->state == TIME_WAIT) tg_gone(flow, TG_ERR_NONE);
}

/* ---- what the host says ---- */

/* No more bytes for the client: FIN behind what is queued. */
TG_EXPORT(tg_tcp_finish) void tg_tcp_finish(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->pcb == NULL || flow->state != TG_OPEN) return;
  flow->finishing = 1;
  tg_finish(flow);
}

/* RST to the client, where its side is not over yet, and the PCB is gone. */
static void reset(struct tg_flow *flow)
{
  if (flow->pcb->state != TIME_WAIT) tg_send_reset(flow);
  tcp_abandon(flow->pcb, 0);
}

/* Also when the host was told of an end already: it may still have bytes to take. */
void tg_out_of_memory(struct tg_flow *flow)
{
  flow->state = TG_GONE;
  flow->error = TG_ERR_MEMORY;
  tg_dial_end(&flow->dial);
  tg_event(flow, TG_EV_GONE);
  if (flow->pcb != NULL) reset(flow);
}

/* RST to the client, now. */
TG_EXPORT(tg_tcp_abort) void tg_tcp_abort(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  tg_syn_drop(flow);
  tg_gone(flow, TG_ERR_ABORTED);
  if (flow->pcb != NULL) reset(flow);
}

/*
 * The host is done with a flow and forgets its number. What is still open towards the client is reset; TIME_WAIT
 * is left to lwIP.
 */
TG_EXPORT(tg_tcp_release) void tg_tcp_release(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->state == TG_FREE || flow->released) return;
  tg_syn_drop(flow);
  tg_receive_free(flow);
  flow->released = 1;
  if (flow->pcb == NULL) {
    tg_flow_free(flow);
    return;
  }
  tcp_arg(flow->pcb, NULL);
  flow->state = TG_GONE;
  if (flow->pcb->state != TIME_WAIT) reset(flow);
}
