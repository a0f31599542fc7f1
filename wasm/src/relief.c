/*
 * Who gives way when memory is out: of the client that holds the most, the flows that hold the most, as fair queueing drops
 * from the longest queue. So who takes much loses it, and not who asks next.
 */
#include "tungate.h"

#define SHARES 1024

/* What clients hold, by a keyed hash of their address. Two that share a place count as one. */
static u32_t shares[SHARES];

static u32_t place_of(const struct tg_flow *flow)
{
  return tg_hash(flow->client, 0, 3) % SHARES;
}

/*
 * Resets flows until `bytes` are freed. `held` says how many a flow would give, 0 when it is to be spared; `drop` ends one.
 * How many were freed, which is fewer when that client has no more in flows of half the largest one's size.
 */
u32_t tg_relieve(u32_t bytes, u32_t (*held)(const struct tg_flow *), void (*drop)(struct tg_flow *))
{
  u32_t end = tg_flows_end(), heaviest = 0, most = 0, freed = 0;
  memset(shares, 0, sizeof shares);
  for (u32_t id = 0; id < end; id++) {
    u32_t holds = held(&tg_flows[id]);
    if (holds == 0) continue;
    u32_t place = place_of(&tg_flows[id]);
    shares[place] += holds;
    if (shares[place] > shares[heaviest]) heaviest = place;
  }
  if (shares[heaviest] == 0) return 0;
  for (u32_t id = 0; id < end; id++) {
    u32_t holds = held(&tg_flows[id]);
    if (holds > most && place_of(&tg_flows[id]) == heaviest) most = holds;
  }
  for (u32_t id = 0; id < end && freed < bytes; id++) {
    u32_t holds = held(&tg_flows[id]);
    if (holds == 0 || holds < most / 2 || place_of(&tg_flows[id]) != heaviest) continue;
    freed += holds;
    TG_COUNT(drop_memory);
    drop(&tg_flows[id]);
  }
  return freed;
}
