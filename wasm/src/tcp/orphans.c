/*
 * The connections of an instance that stopped. Its memory can still be read: it lists them for the host, which hands the
 * list, as it is, to the instance that takes its place. That one resets them, so that clients need not find out by
 * themselves. A SYN that is held is none: its client sends it again, and the new instance asks.
 */
#include "tungate.h"

struct orphan {
  u32_t family, client_port, dest_port;
  u32_t sequence, acknowledged, expected; /* snd_nxt, lastack, rcv_nxt */
  u8_t client[16], dest[16];
};

static struct {
  u32_t bytes, count, next; /* of all of it; rows; the flow to go on with */
  struct orphan rows[64];
} list;

/* What lies there may be wrong: it stopped for a reason. */
static int is_in_memory(const struct tcp_pcb *pcb)
{
  u32_t at = (u32_t)(uintptr_t)pcb, end = (u32_t)__builtin_wasm_memory_size(0) * 65536;
  return at != 0 && at % 4 == 0 && at < end - sizeof *pcb;
}

/* Lists connections from flow number `from` on. Returns where the list is, in each instance: {bytes, rows, next number, …}. */
TG_EXPORT(tg_orphans) void *tg_orphans(u32_t from)
{
  u32_t id = from;
  for (list.count = 0; id < TG_MAX_FLOWS && list.count < LWIP_ARRAYSIZE(list.rows); id++) {
    const struct tg_flow *flow = &tg_flows[id];
    const struct tcp_pcb *pcb = flow->pcb;
    if ((flow->state != TG_OPENING && flow->state != TG_OPEN) || !is_in_memory(pcb)) continue;
    struct orphan *row = &list.rows[list.count++];
    *row = (struct orphan){flow->family, flow->client_port, flow->dest_port, pcb->snd_nxt, pcb->lastack, pcb->rcv_nxt,
                           {0}, {0}};
    memcpy(row->client, flow->client, 16);
    memcpy(row->dest, flow->dest, 16);
  }
  list.bytes = sizeof list;
  list.next = id;
  return &list;
}

/*
 * Resets what the list names: the host has copied it to the same place here. As with any reset both sequences that a
 * client may expect are said.
 */
TG_EXPORT(tg_orphans_adopt) void tg_orphans_adopt(void)
{
  for (u32_t at = 0; at < LWIP_MIN(list.count, LWIP_ARRAYSIZE(list.rows)); at++) {
    const struct orphan *row = &list.rows[at];
    ip_addr_t client, dest;
    tg_ip_addr(&client, row->client, row->family);
    tg_ip_addr(&dest, row->dest, row->family);
    u16_t from = (u16_t)row->dest_port, to = (u16_t)row->client_port;
    if (row->acknowledged != row->sequence)
      tcp_rst_netif(&tg_netif, row->acknowledged, row->expected, &dest, &client, from, to);
    tcp_rst_netif(&tg_netif, row->sequence, row->expected, &dest, &client, from, to);
  }
}
