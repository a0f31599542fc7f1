/*
 * lwIP's control blocks, found in O(1). lwIP keeps them in one list, searches it for every segment and walks it with
 * every timer. Here that list is empty but for the duration of a call: a segment is given to lwIP with its own flow's
 * PCB as the only one, and the timers see only those that have something to wait for.
 *
 *   live     may have a timer running            parked  idle: nothing sent, held or promised; only keep-alive counts
 *   ending   in TIME_WAIT, for which lwIP has a list of its own, treated likewise
 */
#include "tungate.h"

struct list {
  struct tg_flow *head, *tail;
};
static struct list live, parked, ending;

static struct list *list_of(const struct tg_flow *flow)
{
  return flow->listed == TG_LIVE ? &live : flow->listed == TG_PARKED ? &parked : &ending;
}

static void unlist(struct tg_flow *flow)
{
  if (flow->listed == TG_UNLISTED) return;
  struct list *list = list_of(flow);
  if (flow->list_prev != NULL) flow->list_prev->list_next = flow->list_next;
  else list->head = flow->list_next;
  if (flow->list_next != NULL) flow->list_next->list_prev = flow->list_prev;
  else list->tail = flow->list_prev;
  flow->list_prev = flow->list_next = NULL;
  flow->listed = TG_UNLISTED;
}

static void enlist(struct tg_flow *flow, u8_t as)
{
  unlist(flow);
  flow->listed = as;
  struct list *list = list_of(flow);
  flow->list_prev = list->tail;
  if (list->tail != NULL) list->tail->list_next = flow;
  else list->head = flow;
  list->tail = flow;
}

/* Before anything is asked of the flow's PCB: it may need a timer afterwards. */
void tg_pcb_wake(struct tg_flow *flow)
{
  if (flow->listed != TG_LIVE && flow->pcb != NULL && flow->pcb->state != TIME_WAIT) enlist(flow, TG_LIVE);
}

/* The PCB exists no more. */
void tg_pcb_lost(struct tg_flow *flow)
{
  unlist(flow);
  flow->pcb = NULL;
}

/*
 * tcp_input() for a segment of this flow; `flow` is NULL when it belongs to none. lwIP acknowledges every second segment;
 * here data is acknowledged once a batch, when the host has seen it (tg_acknowledge), so the mark is taken from lwIP before
 * it counts two. `is_cut`: it came with data, which was not taken.
 */
void tg_pcb_input(struct tg_flow *flow, struct pbuf *p, int is_cut)
{
  struct tcp_pcb *pcb = flow != NULL ? flow->pcb : NULL;
  if (pcb != NULL && pcb->state == TIME_WAIT) {
    tcp_tw_pcbs = pcb;
    pcb->next = NULL;
    tcp_input(p, &tg_netif);
    tcp_tw_pcbs = NULL;
    return;
  }
  tcp_active_pcbs = pcb;
  struct tg_report report;
  u32_t data = 0, owed = 0, sent = tg_egress.packets;
  int had_gap = 0, waits = 0;
  if (pcb != NULL) {
    pcb->next = NULL;
    tg_pcb_wake(flow);
    data = p->tot_len - (((const u8_t *)p->payload)[12] >> 4 << 2);
    waits = flow->sender.nxt != flow->sender.una || flow->sender.unsent > 0;
    if (waits) tg_report_read(&report, flow, p->payload, data);
    if (is_cut) report.pure = 0; /* RFC 5681 2: what carries data is no duplicate */
    had_gap = pcb->ooseq != NULL;
    owed = data > 0 ? pcb->flags & TF_ACK_DELAY : 0;
    if (!(pcb->flags & TF_ACK_DELAY)) flow->ack_bytes = 0;
    if (owed) tcp_clear_flags(pcb, TF_ACK_DELAY);
  }
  tcp_input(p, &tg_netif);
  tcp_active_pcbs = tcp_tw_pcbs = NULL;
  if (flow == NULL || flow->pcb == NULL) return;
  if (flow->pcb->state == TIME_WAIT) enlist(flow, TG_ENDING);
  else tg_pcb_wake(flow);
  if (had_gap && data > 0 && sent == tg_egress.packets) tcp_send_empty_ack(flow->pcb); /* RFC 5681 4.2 */
  if (owed && sent == tg_egress.packets) tcp_set_flags(flow->pcb, TF_ACK_DELAY); /* also when the segment was dropped */
  if (flow->pcb->flags & TF_ACK_DELAY) flow->ack_bytes += data;
  if (!waits) return;
  tg_reported(flow, &report);
  tg_finish(flow);
}

/* The host has seen the batch's data: more than a segment of it is acknowledged now (RFC 9293 3.8.6.3), less by timer. */
void tg_acknowledge(struct tg_flow *flow)
{
  struct tcp_pcb *pcb = flow->pcb;
  if (pcb == NULL || !(pcb->flags & TF_ACK_DELAY) || flow->ack_bytes <= flow->peer_mss) return;
  tg_pcb_wake(flow);
  tcp_ack_now(pcb);
  tcp_output(pcb);
}

/* lwIP's slow timer sends the next probe when the last segment is older than this, in its ticks. */
static u32_t keep_alive_ticks(void)
{
  return tg_config.keep_alive_ms / TCP_SLOW_INTERVAL;
}

/* lwIP probes in these states alone. */
static int is_probed(const struct tcp_pcb *pcb)
{
  return pcb->state == ESTABLISHED || pcb->state == CLOSE_WAIT;
}

static int idle(const struct tg_flow *flow)
{
  const struct tcp_pcb *pcb = flow->pcb;
  if (is_probed(pcb) && tg_config.keep_alive_ms != 0 && tcp_ticks - pcb->tmr > keep_alive_ticks()) return 0;
  return flow->tx_bytes == 0 && flow->sender.nxt == flow->sender.una && pcb->state != SYN_RCVD && pcb->ooseq == NULL &&
         pcb->refused_data == NULL && pcb->keep_cnt_sent == 0 && (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW)) == 0;
}

/*
 * lwIP gives LAST_ACK two TCP_MSL since the last segment, also while the client's window is closed on data before the
 * FIN. The bound is that of retransmissions, and the host's half-close time-out.
 */
static void keep_last_ack(struct tcp_pcb *pcb)
{
  if (pcb->state == LAST_ACK) pcb->tmr = tcp_ticks;
}

/* All are parked with the same keep-alive time, so the first is due first; lwIP's clock stood still meanwhile. */
static void wake_due(void)
{
  if (tg_config.keep_alive_ms == 0) return;
  while (parked.head != NULL && tg_now_ms - parked.head->parked_ms >= tg_config.keep_alive_ms) {
    struct tg_flow *flow = parked.head;
    flow->parked_ms = tg_now_ms;
    if (is_probed(flow->pcb)) flow->pcb->tmr = tcp_ticks - keep_alive_ticks() - 1;
    enlist(flow, is_probed(flow->pcb) ? TG_LIVE : TG_PARKED);
  }
}

/* Senders whose time has come. */
void tg_pcbs_senders(void)
{
  for (struct tg_flow *flow = live.head; flow != NULL; flow = flow->list_next)
    if (flow->tx_bytes > 0 || flow->sender.nxt != flow->sender.una)
      tg_sender_tick(flow);
}

/* lwIP's list of the flows of ours. */
static void show(struct tcp_pcb **link, const struct list *list)
{
  for (struct tg_flow *flow = list->head; flow != NULL; flow = flow->list_next) {
    keep_last_ack(flow->pcb);
    *link = flow->pcb;
    link = &flow->pcb->next;
  }
  *link = NULL;
}

void tg_pcbs_timers(void)
{
  wake_due();
  show(&tcp_active_pcbs, &live);
  show(&tcp_tw_pcbs, &ending);
  tcp_tmr();
  tcp_active_pcbs = tcp_tw_pcbs = NULL;
  for (struct tg_flow *flow = live.head, *next; flow != NULL; flow = next) {
    next = flow->list_next;
    if (!idle(flow)) continue;
    flow->parked_ms = tg_now_ms;
    enlist(flow, TG_PARKED);
  }
}

#define RECYCLED 8

/*
 * Gives the memory of the oldest connections in TIME_WAIT back, when there is no other. lwIP would do so itself
 * (tcp_alloc), but does not see them while it is called. 0: there are none.
 */
int tg_time_wait_recycle(void)
{
  u32_t count = 0;
  for (; ending.head != NULL && count < RECYCLED; count++) tcp_abort(ending.head->pcb);
  return count > 0;
}

/* A timer of lwIP runs. */
int tg_pcbs_busy(void)
{
  return live.head != NULL || ending.head != NULL;
}

/* PCBs that lwIP holds, TIME_WAIT included: for leak tests. */
TG_EXPORT(tg_pcbs) u32_t tg_pcbs(void)
{
  u32_t count = 0;
  for (const struct tg_flow *flow = live.head; flow != NULL; flow = flow->list_next) count++;
  for (const struct tg_flow *flow = parked.head; flow != NULL; flow = flow->list_next) count++;
  for (const struct tg_flow *flow = ending.head; flow != NULL; flow = flow->list_next) count++;
  return count;
}
