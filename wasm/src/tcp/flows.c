/* The table of TCP flows, and the way from a packet's names to its flow. */
#include "tungate.h"

#define BUCKETS (TG_MAX_FLOWS * 2)
#define NONE 0xffffffffu

struct tg_flow tg_flows[TG_MAX_FLOWS];
static u32_t buckets[BUCKETS]; /* flow number + 1; 0: empty */
static u32_t free_head = NONE, fresh, used;

static u32_t hash_of(const u8_t *client, u32_t client_port, const u8_t *dest, u32_t dest_port)
{
  return tg_hash_pair(client, dest, client_port << 16 | dest_port) % BUCKETS;
}

struct tg_flow *tg_flow_find(const u8_t *client, u32_t client_port, const u8_t *dest, u32_t dest_port, u32_t family)
{
  for (u32_t id = buckets[hash_of(client, client_port, dest, dest_port)]; id != 0; id = tg_flows[id - 1].hash_next) {
    struct tg_flow *flow = &tg_flows[id - 1];
    if (flow->client_port == client_port && flow->dest_port == dest_port && flow->family == family &&
        memcmp(flow->client, client, 16) == 0 && memcmp(flow->dest, dest, 16) == 0)
      return flow;
  }
  return NULL;
}

struct tg_flow *tg_flow_new(const u8_t *client, u32_t client_port, const u8_t *dest, u32_t dest_port, u32_t family)
{
  if (used >= tg_config.max_flows) return NULL;
  u32_t id = free_head;
  if (id != NONE) free_head = tg_flows[id].free_next;
  else id = fresh++;
  used++;
  struct tg_flow *flow = &tg_flows[id];
  u8_t queued = flow->queued; /* a stale place in the event queue stays the flow's one place */
  memset(flow, 0, sizeof *flow);
  flow->queued = queued;
  flow->family = family;
  flow->client_port = client_port;
  flow->dest_port = dest_port;
  memcpy(flow->client, client, 16);
  memcpy(flow->dest, dest, 16);
  flow->hash = hash_of(client, client_port, dest, dest_port);
  flow->hash_next = buckets[flow->hash];
  buckets[flow->hash] = id + 1;
  return flow;
}

void tg_flow_unlink(struct tg_flow *flow)
{
  if (flow->unlinked) return;
  flow->unlinked = 1;
  u32_t id = (u32_t)(flow - tg_flows);
  u32_t *link = &buckets[flow->hash];
  while (*link != id + 1) link = &tg_flows[*link - 1].hash_next;
  *link = flow->hash_next;
}

void tg_flow_free(struct tg_flow *flow)
{
  u32_t id = (u32_t)(flow - tg_flows);
  tg_flow_unlink(flow);
  tg_dial_end(&flow->dial);
  flow->state = TG_FREE;
  flow->events = 0;
  flow->free_next = free_head;
  free_head = id;
  used--;
}

u32_t tg_flows_end(void)
{
  return fresh;
}

/* Flows in the table, those included that wait for lwIP to let go of them. */
TG_EXPORT(tg_flows_used) u32_t tg_flows_used(void)
{
  return used;
}
