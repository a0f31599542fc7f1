/*
 * Client → upstream. What lwIP delivers stays where it landed (a slot of the tun) and is offered to the host as
 * iovecs; the receive window is credited only for what the upstream's socket took. What it did not take is copied out
 * of the slots into blocks of the flow's own, so that a slow upstream holds no slot.
 *
 * Bounds: one flow TCP_WND. Where half of malloc's memory is taken by what clients have sent, segments count as lost for flows
 * that hold more than TG_RX_FLOW_FLOOR, above three quarters for all that hold something. The rest is for flows that hold nothing,
 * and where it is out, who holds the most gives way (relief.c).
 */
#include "tungate.h"

#define BLOCK_BYTES 16384
#define RELIEF_BYTES (256u << 10) /* freed at once when memory is out */

/*
 * A queued pbuf's tot_len says how much memory it stands for. The queue has no use for what lwIP keeps there, and 16 bits
 * would not do for a sum.
 */
static u32_t held_bytes; /* memory of blocks, all flows */

struct tg_iovec tg_iovecs[TG_IOVECS];

/* Memory of what clients have sent. */
static u32_t taken(void)
{
  return held_bytes + tg_out_of_order_held() + tg_fragments_held();
}

int tg_receive_over_budget(const struct tg_flow *flow)
{
  u32_t bytes = taken(), quarter = tg_memory_size() / 4;
  return bytes > 2 * quarter && flow->rx_bytes > (bytes > 3 * quarter ? 0 : TG_RX_FLOW_FLOOR);
}

static int in_slot(const struct pbuf *p)
{
  return (p->flags & PBUF_FLAG_IS_CUSTOM) != 0;
}

/* The queue is the pbufs' own `next`. */
void tg_receive(struct tg_flow *flow, struct pbuf *p)
{
  flow->rx_bytes += p->tot_len;
  if (flow->rx_tail != NULL) flow->rx_tail->next = p;
  else flow->rx_head = p;
  for (struct pbuf *node = p; node != NULL; node = node->next) {
    flow->rx_tail = node;
    node->tot_len = node->len;
    if (!in_slot(node)) held_bytes += node->tot_len;
  }
  tg_event(flow, TG_EV_DATA);
}

static struct pbuf *take_head(struct tg_flow *flow)
{
  struct pbuf *p = flow->rx_head;
  flow->rx_head = p->next;
  if (flow->rx_head == NULL) flow->rx_tail = NULL;
  p->next = NULL;
  return p;
}

static void free_node(struct pbuf *p)
{
  if (!in_slot(p)) held_bytes -= p->tot_len;
  p->tot_len = p->len;
  pbuf_free(p);
}

void tg_receive_free(struct tg_flow *flow)
{
  while (flow->rx_head != NULL) free_node(take_head(flow));
  flow->rx_bytes = 0;
}

/* Offers what waits, at most TG_IOVECS pieces, in tg_iovecs; how many. */
TG_EXPORT(tg_tcp_peek) u32_t tg_tcp_peek(u32_t id)
{
  u32_t count = 0;
  for (struct pbuf *p = tg_flows[id].rx_head; p != NULL && count < TG_IOVECS; p = p->next) {
    if (p->len == 0) continue;
    tg_iovecs[count].offset = (u32_t)(uintptr_t)p->payload;
    tg_iovecs[count++].length = p->len;
  }
  return count;
}

static struct pbuf *new_block(u32_t bytes)
{
  u32_t size = taken() > tg_memory_size() / 2 ? bytes : LWIP_MAX(bytes, BLOCK_BYTES); /* none is to spare then */
  struct pbuf *block = pbuf_alloc(PBUF_RAW, (u16_t)size, PBUF_RAM);
  if (block == NULL) return NULL;
  block->len = 0;
  held_bytes += block->tot_len;
  return block;
}

/* ---- who gives way ---- */

static const struct tg_flow *asking;

static u32_t held_by(const struct tg_flow *flow)
{
  u32_t bytes = flow->out_of_order;
  if (flow == asking) return 0;
  for (const struct pbuf *p = flow->rx_head; p != NULL; p = p->next)
    if (!in_slot(p)) bytes += p->tot_len;
  return bytes;
}

/* Its bytes are lost, and to the host they were never delivered: the upstream must not see an orderly end. */
static void lose(struct tg_flow *flow)
{
  u32_t lost = flow->rx_bytes;
  tg_receive_free(flow);
  flow->rx_bytes = lost;
  tg_out_of_memory(flow);
}

static struct pbuf *find_block(const struct tg_flow *flow, u32_t bytes)
{
  struct pbuf *block = new_block(bytes);
  if (block != NULL) return block;
  asking = flow;
  tg_relieve(RELIEF_BYTES, held_by, lose);
  asking = NULL;
  return new_block(bytes);
}

/* Moves what still lies in slots into blocks. Returns 0 when memory is out: not all of it is there any more. */
static int settle(struct tg_flow *flow)
{
  struct pbuf *p = flow->rx_head;
  while (p != NULL && !in_slot(p)) p = p->next;
  if (p == NULL) return 1;
  struct pbuf *rest = flow->rx_head;
  flow->rx_head = flow->rx_tail = NULL;
  u32_t room = 0;
  while (rest != NULL) {
    struct pbuf *node = rest;
    rest = node->next;
    node->next = NULL;
    if (!in_slot(node) && flow->rx_tail == NULL) {
      flow->rx_head = flow->rx_tail = node;
      continue;
    }
    if (!in_slot(node) && node->len >= BLOCK_BYTES / 2) {
      flow->rx_tail->next = node;
      flow->rx_tail = node;
      room = 0;
      continue;
    }
    for (u32_t done = 0; done < node->len;) {
      if (room == 0) {
        u32_t left = node->len - done;
        struct pbuf *block = find_block(flow, left);
        if (block == NULL) {
          node->next = rest;
          while (node != NULL) {
            struct pbuf *next = node->next;
            node->next = NULL;
            free_node(node);
            node = next;
          }
          return 0;
        }
        room = block->tot_len;
        if (flow->rx_tail != NULL) flow->rx_tail->next = block;
        else flow->rx_head = block;
        flow->rx_tail = block;
      }
      u32_t part = LWIP_MIN(room, node->len - done);
      memcpy((u8_t *)flow->rx_tail->payload + flow->rx_tail->len, (u8_t *)node->payload + done, part);
      flow->rx_tail->len = (u16_t)(flow->rx_tail->len + part);
      room -= part;
      done += part;
    }
    free_node(node);
  }
  return 1;
}

/*
 * The upstream took `bytes` of what was offered (0: it takes nothing now). Must be called after each DATA event, before
 * the next batch: it also frees the slots.
 */
TG_EXPORT(tg_tcp_consume) void tg_tcp_consume(u32_t id, u32_t bytes)
{
  struct tg_flow *flow = &tg_flows[id];
  u32_t left = LWIP_MIN(bytes, flow->rx_bytes), credit = left;
  flow->rx_bytes -= left;
  while (flow->rx_head != NULL && flow->rx_head->len <= left) {
    left -= flow->rx_head->len;
    free_node(take_head(flow));
  }
  if (left > 0) {
    flow->rx_head->payload = (u8_t *)flow->rx_head->payload + left;
    flow->rx_head->len = (u16_t)(flow->rx_head->len - left);
  }
  if (!settle(flow)) {
    TG_COUNT(drop_memory);
    lose(flow);
    return;
  }
  if (credit > 0) tg_pcb_wake(flow);
  while (credit > 0 && flow->pcb != NULL && flow->state == TG_OPEN) {
    u16_t part = (u16_t)LWIP_MIN(credit, 0xffff);
    tcp_recved(flow->pcb, part);
    credit -= part;
  }
  tg_acknowledge(flow);
}

/* Bytes from clients that wait in blocks, all flows. */
TG_EXPORT(tg_receive_held) u32_t tg_receive_held(void)
{
  return held_bytes;
}
