/*
 * The way to an open flow: a SYN that is held, and its answer.
 *
 * A SYN is held as 20 to 60 bytes of header. When the host accepts, it is given to lwIP's wildcard listener, which
 * answers SYN-ACK: the client's connect() says what the proxy said. lwIP stays unpatched: the listener's port is set
 * to the SYN's for that one call and is 0 otherwise, so that segments of no flow meet no listener and get RST.
 */
#include "tungate.h"

#include "lwip/ip.h"

/* A client that asks for less costs more packets than it is worth: Linux's net.ipv4.tcp_min_snd_mss. */
#define MIN_SND_MSS 48

static struct tcp_pcb_listen *listener;
static u8_t flow_arg;
static struct tg_flow *opening;

/* ---- the SYN ---- */

void tg_syn_drop(struct tg_flow *flow)
{
  if (flow->syn != NULL) pbuf_free(flow->syn);
  flow->syn = NULL;
}

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
  tg_syn_drop(flow);
  flow->syn = copy;
  flow->isn = lwip_ntohl(header->seqno);
}

/* `flow`: the one of these names, which holds a SYN already, or NULL. p stays the caller's. */
void tg_syn(struct tg_flow *flow, struct pbuf *p, const struct tcp_hdr *header, const struct tg_quote *names)
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
  tg_syn_drop(flow);
  tg_gone(flow, TG_ERR_DISPLACED);
  tg_flow_unlink(flow);
  if (flow->pcb != NULL) tcp_abandon(flow->pcb, 0);
}

/* ---- what lwIP says ---- */

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
  struct tg_flow *flow = pcb != NULL ? tcp_ext_arg_get(pcb, flow_arg) : NULL;
  (void)arg;
  if (flow == NULL || err != ERR_OK) return ERR_VAL;
  flow->state = TG_OPEN;
  tg_dial_proved(&flow->dial);
  pcb->mss = LWIP_MAX(pcb->mss, MIN_SND_MSS);
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
  tcp_ext_arg_set_callbacks(pcb, flow_arg, &flow_callbacks); /* lwIP does not hand the listener's down */
  tcp_ext_arg_set(pcb, flow_arg, opening);
  tg_flow_follow(opening, pcb);
  if (tg_config.keep_alive_ms != 0) {
    pcb->so_options |= SOF_KEEPALIVE;
    pcb->keep_idle = tg_config.keep_alive_ms;
    pcb->keep_intvl = LWIP_MAX(tg_config.keep_alive_ms / 4, 1000);
    pcb->keep_cnt = 5;
  }
  return ERR_OK;
}

static const struct tcp_ext_arg_callbacks flow_callbacks = {tg_pcb_destroyed, on_passive_open};

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
  tg_pcb_input(flow, p, 0);
  if (flow->pcb == NULL && flow->state == TG_OPENING && tg_time_wait_recycle()) {
    p->payload = header;
    p->len = p->tot_len = bytes;
    turn_back(header);
    tg_pcb_input(flow, p, 0);
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
  tg_syn_drop(flow);
  tg_gone(flow, TG_ERR_ABORTED);
}
