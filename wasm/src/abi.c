/*
 * What the host must know of this module's memory, said once: names and numbers, read by src/stack/abi.ts at start.
 * Offsets and sizes are bytes.
 */
#include "tungate.h"

#include <stddef.h>

#define TABLE(of) (u32_t)(uintptr_t)(of)
#define FLOW(field) offsetof(struct tg_flow, field)
#define ENDPOINT(field) offsetof(struct tg_endpoint, field)
#define DATAGRAM(field) offsetof(struct tg_datagram, field)

/* The host's own: handshakes are read and written here. */
static u8_t scratch[4096] __attribute__((aligned(16)));

static const struct {
  const char *name;
  u32_t value;
} constants[] = {
  {"maxFlows", TG_MAX_FLOWS},
  {"maxEndpoints", TG_MAX_ENDPOINTS},
  {"seedBytes", TG_SEED_BYTES},
  {"slots", TG_SLOTS},
  {"slotBytes", TG_SLOT_BYTES},
  {"landingSlots", TG_LANDING_SLOTS},
  {"landingBytes", TG_LANDING_BYTES},
  {"headerRoom", TG_HEADER_ROOM},
  {"tickMs", TCP_TMR_INTERVAL},
  {"hurryMs", TG_HURRY_MS},
  {"reorderTimers", TABLE(&tg_reorder_timers)},

  {"stateHeld", TG_HELD},
  {"stateOpening", TG_OPENING},
  {"stateOpen", TG_OPEN},

  {"eventSyn", TG_EV_SYN},
  {"eventOpen", TG_EV_OPEN},
  {"eventData", TG_EV_DATA},
  {"eventFin", TG_EV_FIN},
  {"eventRoom", TG_EV_ROOM},
  {"eventGone", TG_EV_GONE},

  {"errorNone", TG_ERR_NONE},
  {"errorReset", TG_ERR_RESET},
  {"errorTimeout", TG_ERR_TIMEOUT},
  {"errorAborted", TG_ERR_ABORTED},
  {"errorMemory", TG_ERR_MEMORY},
  {"errorDisplaced", TG_ERR_DISPLACED},

  {"answerReset", TG_ANSWER_RESET},
  {"answerNetUnreachable", TG_ANSWER_NET_UNREACHABLE},
  {"answerHostUnreachable", TG_ANSWER_HOST_UNREACHABLE},
  {"answerProhibited", TG_ANSWER_PROHIBITED},
  {"answerPortUnreachable", TG_ANSWER_PORT_UNREACHABLE},
  {"answerSilence", TG_ANSWER_SILENCE},

  {"flows", TABLE(tg_flows)},
  {"flowBytes", sizeof(struct tg_flow)},
  {"flowState", FLOW(state)},
  {"flowFamily", FLOW(family)},
  {"flowClientPort", FLOW(client_port)},
  {"flowDestPort", FLOW(dest_port)},
  {"flowClient", FLOW(client)},
  {"flowDest", FLOW(dest)},
  {"flowRxBytes", FLOW(rx_bytes)},
  {"flowError", FLOW(error)},
  {"eventBits", TABLE(&tg_event_bits)},

  {"endpoints", TABLE(tg_endpoints)},
  {"endpointBytes", sizeof(struct tg_endpoint)},
  {"endpointFamily", ENDPOINT(family)},
  {"endpointPort", ENDPOINT(port)},
  {"endpointUsed", ENDPOINT(used)},
  {"endpointAddress", ENDPOINT(address)},
  {"endpointStranger", ENDPOINT(is_stranger)},

  {"datagrams", TABLE(tg_datagrams)},
  {"datagramBytes", sizeof(struct tg_datagram)},
  {"datagramCount", TABLE(&tg_datagram_count)},
  {"datagramEndpoint", DATAGRAM(endpoint)},
  {"datagramFamily", DATAGRAM(family)},
  {"datagramDestPort", DATAGRAM(dest_port)},
  {"datagramLength", DATAGRAM(length)},
  {"datagramDest", DATAGRAM(dest)},
  {"datagramHeader", DATAGRAM(header)},
  {"datagramFirstIovec", DATAGRAM(first_iovec)},
  {"datagramIovecs", TABLE(tg_datagram_iovecs)},
  {"messages", TABLE(tg_datagram_messages)},
  {"messageBytes", sizeof(struct tg_message)},

  {"iovecs", TABLE(tg_iovecs)},
  {"iovecBytes", sizeof(struct tg_iovec)},
  {"slotTable", TABLE(tg_slot_table)},
  {"landingTable", TABLE(tg_landing_table)},
  {"landed", TABLE(tg_landed)},
  {"egress", TABLE(&tg_egress)},
  {"egressPackets", TABLE(tg_egress_packets)},
  {"egressIovecs", TABLE(tg_egress_iovecs)},
  {"scratch", TABLE(scratch)},
  {"scratchBytes", sizeof scratch},
  {"counters", TABLE(&tg_counters)},
  {NULL, 0},
};

/* Rows of {name, value}, ended by a null name. */
TG_EXPORT(tg_abi) const void *tg_abi(void)
{
  return constants;
}

/* The names of tg_counters, in order, separated by spaces. */
TG_EXPORT(tg_counter_names) const char *tg_counter_names(void)
{
#define X(name) #name " "
  return TG_COUNTERS(X);
#undef X
}
