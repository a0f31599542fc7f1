/*
 * What the host must look at: a queue of flow numbers, each at most once, so it cannot overflow. The bits stand in the
 * flow itself; the host takes the number, reads and clears the bits, and acts. Acting may queue the flow again.
 */
#include "tungate.h"

struct {
  u32_t head, tail; /* indices, modulo TG_MAX_FLOWS; empty when equal */
  u32_t ids[TG_MAX_FLOWS];
} tg_events;

void tg_event(struct tg_flow *flow, u32_t bits)
{
  if (flow->released) return;
  flow->events |= bits;
  if (flow->queued) return;
  flow->queued = 1;
  tg_events.ids[tg_events.tail++ % TG_MAX_FLOWS] = (u32_t)(flow - tg_flows);
}

/* Takes the next flow from the queue: its number, or -1. Its bits are moved to tg_event_bits. */
u32_t tg_event_bits;

TG_EXPORT(tg_next_event) s32_t tg_next_event(void)
{
  while (tg_events.head != tg_events.tail) {
    struct tg_flow *flow = &tg_flows[tg_events.ids[tg_events.head++ % TG_MAX_FLOWS]];
    flow->queued = 0;
    tg_event_bits = flow->events;
    flow->events = 0;
    if (tg_event_bits != 0) return (s32_t)(flow - tg_flows);
  }
  return -1;
}
