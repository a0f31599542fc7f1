/*
 * TCP: from a segment to its flow, and the life of a flow.
 *
 *   SYN ──▶ HELD ──accept──▶ OPENING ──ACK──▶ OPEN ──FINs or RST──▶ GONE ──release──▶ (slot free when lwIP let go)
 *             └─refuse: RST, ICMP or silence
 *
 * A SYN is held as 20 to 60 bytes of header. When the host accepts, it is given to lwIP's wildcard listener, which
 * answers SYN-ACK: the client's connect() says what the proxy said. lwIP stays unpatched: the listener's port is set
 * to the SYN's for that one call and is 0 otherwise, so that segments of no flow meet no listener and get RST.
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"

/* A client that asks for less costs more packets than it is worth: Linux's net.ipv4.tcp_min_snd_mss. */
#define MIN_SND_MSS 48
/*
 * lwIP makes segments of half the largest window that it has seen, but of a whole MSS when it has seen none; when one opens
 * then, it asserts that what is queued fits. RFC 9293 3.7.1: 536 bytes fit everybody.
 */
#define LEAST_WINDOW (2 * 536)

static struct tcp_pcb_listen *listener;
static u8_t flow_arg;
static struct tg_flow *opening;

static void held_drop(struct tg_flow *flow)
{
  if (flow->syn != NULL) pbuf_free(flow->syn);
  flow->syn = NULL;
}

static void gone(struct tg_flow *flow, u32_t error)
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
 * The FIN goes out in a segment of its own, when all data has been sent once: it is lwIP's, which knows nothing of the data.
 * What is not sent waits for an acknowledgement, and that leads back here.
 */
void tg_finish(struct tg_flow *flow)
{
  if (!flow->finishing || flow->pcb == NULL || flow->sender.unsent > 0) return;
  flow->finishing = 0;
  tg_pcb_wake(flow);
  flow->pcb->cwnd = TCP_SND_BUF; /* lwIP's own window is not asked */
  if (tcp_shutdown(flow->pcb, 0, 1) == ERR_OK) tcp_output(flow->pcb);
  tg_sender_sent_fin(flow);
}

/* The PCB is gone, or goes right after this call. */
static void on_error(void *arg, err_t err)
{
  struct tg_flow *flow = arg;
  if (flow == NULL) return;
  gone(flow, err == ERR_CLSD ? TG_ERR_NONE : err == ERR_RST ? TG_ERR_RESET : TG_ERR_TIMEOUT);
}

/*
 * The one reliable word that a PCB does not exist any more, whatever the reason. A reset and an end are told by on_error
 * before, so what is new here is a timer of lwIP that gave up.
 */
static void on_destroy(u8_t id, void *data)
{
  (void)id;
  struct tg_flow *flow = data;
  if (flow == NULL) return;
  tg_pcb_lost(flow);
  tg_sender_free(flow);
  tg_send_free(flow);
  gone(flow, TG_ERR_TIMEOUT);
  maybe_free(flow);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
  struct tg_flow *flow = pcb != NULL ? tcp_ext_arg_get(pcb, flow_arg) : NULL;
  (void)arg;
  if (flow == NULL || err != ERR_OK) return ERR_VAL;
  flow->state = TG_OPEN;
  tg_dial_proved(&flow->dial);
  pcb->mss = LWIP_MAX(pcb->mss, MIN_SND_MSS);
  pcb->snd_wnd_max = LWIP_MAX(pcb->snd_wnd_max, LEAST_WINDOW);
  flow->peer_mss = pcb->mss;
  if (tg_config.vnet) pcb->mss = (u16_t)(TCP_MSS / pcb->mss * pcb->mss);
  tg_sender_open(flow);
  TG_COUNT(tcp_opened);
  tg_event(flow, TG_EV_OPEN);
  return ERR_OK;
}

static const struct tcp_ext_arg_callbacks flow_callbacks;

static err_t on_passive_open(u8_t id, struct tcp_pcb_listen *from, struct tcp_pcb *pcb)
{
  (void)id;
  (void)from;
  if (opening == NULL) return ERR_VAL;
  opening->pcb = pcb;
  tcp_ext_arg_set_callbacks(pcb, flow_arg, &flow_callbacks); /* lwIP does not hand the listener's down */
  tcp_ext_arg_set(pcb, flow_arg, opening);
  tcp_arg(pcb, opening);
  tcp_recv(pcb, on_receive);
  tcp_err(pcb, on_error);
  tcp_nagle_disable(pcb);
  if (tg_config.keep_alive_ms != 0) {
    pcb->so_options |= SOF_KEEPALIVE;
    pcb->keep_idle = tg_config.keep_alive_ms;
    pcb->keep_intvl = LWIP_MAX(tg_config.keep_alive_ms / 4, 1000);
    pcb->keep_cnt = 5;
  }
  return ERR_OK;
}

static const struct tcp_ext_arg_callbacks flow_callbacks = {on_destroy, on_passive_open};

void tg_tcp_init(void)
{
  flow_arg = tcp_ext_arg_alloc_id();
  struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
  tcp_ext_arg_set_callbacks(pcb, flow_arg, &flow_callbacks);
  tcp_bind(pcb, IP_ANY_TYPE, 1);
  struct tcp_pcb *bound = tcp_listen(pcb);
  tcp_accept(bound, on_accept);
  listener = (struct tcp_pcb_listen *)bound;
  listener->local_port = 0;
}

/* ---- segments ---- */

static void hold(struct tg_flow *flow, struct pbuf *p, const struct tcp_hdr *header)
{
  u16_t bytes = TCPH_HDRLEN_BYTES(header); /* data on a SYN (TFO) is left out: the client sends it again */
  struct pbuf *copy = pbuf_alloc(PBUF_RAW, bytes, PBUF_RAM);
  if (copy == NULL && tg_time_wait_recycle()) copy = pbuf_alloc(PBUF_RAW, bytes, PBUF_RAM);
  if (copy == NULL) {
    TG_COUNT(drop_memory);
    return;
  }
  pbuf_copy_partial(p, copy->payload, bytes, 0);
  held_drop(flow);
  flow->syn = copy;
  flow->isn = lwip_ntohl(header->seqno);
}

static void syn(struct tg_flow *flow, struct pbuf *p, const struct tcp_hdr *header, const struct tg_quote *names)
{
  if (flow != NULL) {
    if (flow->isn == lwip_ntohl(header->seqno)) TG_COUNT(syn_retransmitted);
    else hold(flow, p, header);
    return;
  }
  flow = tg_flow_new(names->client, names->client_port, names->dest, names->dest_port, names->family);
  if (flow == NULL) {
    TG_COUNT(drop_flow_limit);
    return;
  }
  if (!tg_dial_take(&flow->dial, TG_DIAL_TCP, names->client, names->family)) {
    TG_COUNT(dial_limit);
    tg_flow_free(flow);
    return;
  }
  hold(flow, p, header);
  if (flow->syn == NULL) {
    tg_flow_free(flow);
    return;
  }
  flow->state = TG_HELD;
  tg_event(flow, TG_EV_SYN);
}

/* Not a word to the client: it tries again, and where its address was invented nobody is waiting. */
void tg_tcp_displace(struct tg_dial *dial)
{
  struct tg_flow *flow = (struct tg_flow *)(void *)((u8_t *)dial - offsetof(struct tg_flow, dial));
  TG_COUNT(dials_displaced);
  held_drop(flow);
  gone(flow, TG_ERR_DISPLACED);
  tg_flow_unlink(flow);
  if (flow->pcb != NULL) tcp_abandon(flow->pcb, 0);
}

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
         acknowledged - pcb->lastack <= pcb->snd_nxt - pcb->lastack;
}

/*
 * Whether lwIP may have `*p` now, of a flow with a PCB. Else it is freed, counted and answered. What lwIP may keep is
 * copied out of the tun's slot.
 */
static int admit(struct tg_flow *flow, struct pbuf **p, struct tcp_hdr *header, u32_t flags, u32_t header_bytes)
{
  const struct tcp_pcb *pcb = flow->pcb;
  u32_t ahead = lwip_ntohl(header->seqno) - pcb->rcv_nxt;
  u32_t data = (*p)->tot_len - header_bytes;
  if (!is_expected(pcb, flags, ahead, data, lwip_ntohl(header->ackno))) {
    if (!tg_tcp_acceptable(flow, *p, header)) {
      pbuf_free(*p);
      return 0;
    }
    data = (*p)->tot_len - header_bytes;
  }
  if (data == 0 && !(flags & TCP_FIN)) return 1;
  if (data > 0 && tg_receive_over_budget(flow)) { /* as if lost: the client sends it again, acknowledged bytes are kept */
    TG_COUNT(drop_receive_budget);
    pbuf_free(*p);
    return 0;
  }
  if ((s32_t)ahead > 0 && (*p = tg_out_of_order(*p)) == NULL) {
    tg_pcb_wake(flow);
    tcp_send_empty_ack(flow->pcb); /* what is missing is known to the client, as if it had been kept */
    return 0;
  }
  return 1;
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
    syn(flow, p, header, &names);
    pbuf_free(p);
    return;
  }
  if (flow != NULL && flow->state == TG_HELD) { /* only a RST of the SYN's own sequence means something here */
    if ((flags & TCP_RST) && lwip_ntohl(header->seqno) == flow->isn + 1) gone(flow, TG_ERR_RESET);
    pbuf_free(p);
    return;
  }
  if (flow != NULL && flow->pcb != NULL && !admit(flow, &p, header, flags, header_bytes)) return;
  tg_pcb_input(flow, p);
  if (flow != NULL && flow->pcb != NULL && flow->pcb->state == TIME_WAIT) gone(flow, TG_ERR_NONE);
}

/* ---- what the host says ---- */

/* tcp_input() turns these into the host's order where they lie. */
static void turn_back(struct tcp_hdr *header)
{
  header->src = lwip_htons(header->src);
  header->dest = lwip_htons(header->dest);
  header->seqno = lwip_htonl(header->seqno);
  header->ackno = lwip_htonl(header->ackno);
  header->wnd = lwip_htons(header->wnd);
}

/* The SYN, given to the listener; once more when a PCB can be had for those in TIME_WAIT. */
static void give_syn(struct tg_flow *flow, struct pbuf *p)
{
  void *header = p->payload;
  u16_t bytes = p->len;
  pbuf_ref(p);
  tg_pcb_input(flow, p);
  if (flow->pcb == NULL && flow->state == TG_OPENING && tg_time_wait_recycle()) {
    p->payload = header;
    p->len = p->tot_len = bytes;
    turn_back(header);
    tg_pcb_input(flow, p);
  } else pbuf_free(p);
}

/* The upstream answered: let lwIP answer the client. */
TG_EXPORT(tg_tcp_accept) void tg_tcp_accept(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->state != TG_HELD) return;
  struct pbuf *p = flow->syn;
  flow->syn = NULL;
  flow->state = TG_OPENING;
  tg_ip_addr(&ip_data.current_iphdr_src, flow->client, flow->family);
  tg_ip_addr(&ip_data.current_iphdr_dest, flow->dest, flow->family);
  ip_data.current_netif = ip_data.current_input_netif = &tg_netif;
  listener->local_port = (u16_t)flow->dest_port;
  opening = flow;
  flow->opening_us = tg_now_us;
  tg_mtu_device(); /* the effective MSS is made here */
  give_syn(flow, p);
  tg_mtu_super();
  opening = NULL;
  listener->local_port = 0;
  if (flow->pcb == NULL) tg_out_of_memory(flow);
}

/* The upstream said no: tell the client how (enum tg_answer), and forget the SYN. The host releases the flow. */
TG_EXPORT(tg_tcp_refuse) void tg_tcp_refuse(u32_t id, u32_t answer)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->state != TG_HELD) return;
  if (answer == TG_ANSWER_RESET) {
    ip_addr_t client, dest;
    tg_ip_addr(&client, flow->client, flow->family);
    tg_ip_addr(&dest, flow->dest, flow->family);
    tcp_rst_netif(&tg_netif, 0, flow->isn + 1, &dest, &client, (u16_t)flow->dest_port, (u16_t)flow->client_port);
  } else if (answer != TG_ANSWER_SILENCE) {
    struct tg_quote quote = {flow->family, IP_PROTO_TCP, flow->client, flow->dest,
                             flow->client_port, flow->dest_port, flow->isn};
    tg_unreachable(&quote, answer);
  }
  held_drop(flow);
  gone(flow, TG_ERR_ABORTED);
}

/* No more bytes for the client: FIN behind what is queued. */
TG_EXPORT(tg_tcp_finish) void tg_tcp_finish(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->pcb == NULL || flow->state != TG_OPEN) return;
  flow->finishing = 1;
  tg_finish(flow);
}

/*
 * A client obeys a RST only when its sequence is exactly the next one that it expects (RFC 5961 3.2). That is snd_nxt when
 * it has taken all that was sent, and the last one that it acknowledged when its window was full; so both are said.
 */
static void reset(struct tcp_pcb *pcb)
{
  if (pcb->lastack != pcb->snd_nxt && pcb->state != TIME_WAIT)
    tcp_rst_netif(&tg_netif, pcb->lastack, pcb->rcv_nxt, &pcb->local_ip, &pcb->remote_ip, pcb->local_port,
                  pcb->remote_port);
  tcp_abort(pcb);
}

/* Also when the host was told of an end already: it may still have bytes to take. */
void tg_out_of_memory(struct tg_flow *flow)
{
  flow->state = TG_GONE;
  flow->error = TG_ERR_MEMORY;
  tg_event(flow, TG_EV_GONE);
  if (flow->pcb != NULL) reset(flow->pcb);
}

/* RST to the client, now. */
TG_EXPORT(tg_tcp_abort) void tg_tcp_abort(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  held_drop(flow);
  if (flow->pcb != NULL) {
    gone(flow, TG_ERR_ABORTED);
    reset(flow->pcb);
  } else gone(flow, TG_ERR_ABORTED);
}

/*
 * The host is done with a flow and forgets its number. What is still open towards the client is reset; TIME_WAIT
 * is left to lwIP.
 */
TG_EXPORT(tg_tcp_release) void tg_tcp_release(u32_t id)
{
  struct tg_flow *flow = &tg_flows[id];
  if (flow->state == TG_FREE || flow->released) return;
  held_drop(flow);
  tg_receive_free(flow);
  flow->released = 1;
  if (flow->pcb == NULL) {
    tg_flow_free(flow);
    return;
  }
  tcp_arg(flow->pcb, NULL);
  flow->state = TG_GONE;
  if (flow->pcb->state != TIME_WAIT) reset(flow->pcb);
}
