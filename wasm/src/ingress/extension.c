/*
 * IPv6 extension headers in front of a transport (RFC 8200 4). Nothing that stands in them is obeyed: options that may be
 * skipped are, the others are complained of as their type says (RFC 8200 4.2), and no packet is routed on (RFC 5095).
 */
#include "tungate.h"

#include "lwip/icmp6.h"
#include "lwip/ip6.h"

/* RFC 8200 4.1 names fewer; more is an attack. */
#define MAX_EXTENSION_HEADERS 8

static int is_skipped(u32_t next)
{
  return next == IP6_NEXTH_HOPBYHOP || next == IP6_NEXTH_DESTOPTS || next == IP6_NEXTH_ROUTING;
}

static int drop(double *counter)
{
  *counter += 1;
  return 0;
}
#define DROP(reason) return drop(&tg_counters.reason)

/* RFC 4443 2.4 (e.1): errors are not answered by errors. */
static int is_icmp6_error(const u8_t *bytes, u32_t total, struct tg_chain chain)
{
  for (int depth = 0; depth <= MAX_EXTENSION_HEADERS && is_skipped(chain.next) && chain.at + 8 <= total; depth++) {
    chain.next = bytes[chain.at];
    chain.at += 8 + 8u * bytes[chain.at + 1];
  }
  return chain.next == IP6_NEXTH_ICMP6 && (chain.at >= total || bytes[chain.at] < 128);
}

void tg_parameter_problem(const u8_t *bytes, u32_t total, const struct tg_chain *chain, u32_t code, u32_t at)
{
  if (chain->complain && !is_icmp6_error(bytes, total, *chain)) tg_error6(ICMP6_TYPE_PP, code, at, bytes, total);
}

/* The options of the header at chain->at, which ends at `end`. 0: dropped, and counted. */
static int options(const u8_t *bytes, u32_t total, u32_t end, const struct tg_chain *chain)
{
  for (u32_t at = chain->at + 2; at < end;) {
    u32_t type = bytes[at];
    if (type == IP6_PAD1_OPTION) {
      at++;
      continue;
    }
    if (at + 2 > end || at + 2 + bytes[at + 1] > end) DROP(drop_malformed);
    u32_t action = type >> 6; /* 0: skip; 1: discard; 2, 3: discard and tell, where the destination is no group */
    if (action >= 2) tg_parameter_problem(bytes, total, chain, ICMP6_PP_OPTION, at);
    if (action != 0) DROP(drop_option);
    at += 2 + bytes[at + 1];
  }
  return 1;
}

/*
 * Walks from the header `chain` stands at to the first that is none of these. `bytes` is the packet, of `total` bytes.
 * 0: the packet is to be dropped; that is counted, and said to the client where it should be.
 */
int tg_extensions(const u8_t *bytes, u32_t total, struct tg_chain *chain)
{
  for (int depth = 0; is_skipped(chain->next); depth++) {
    u32_t at = chain->at;
    if (depth == MAX_EXTENSION_HEADERS || at + 8 > total) DROP(drop_malformed);
    u32_t end = at + 8 + 8u * bytes[at + 1];
    if (end > total) DROP(drop_malformed);
    if (chain->next == IP6_NEXTH_ROUTING) {
      if (bytes[at + 3] != 0) { /* segments left: RFC 8200 4.4 */
        tg_parameter_problem(bytes, total, chain, ICMP6_PP_FIELD, at + 2);
        DROP(drop_option);
      }
    } else if (chain->next == IP6_NEXTH_HOPBYHOP && (at != IP6_HLEN || !chain->complain)) {
      tg_parameter_problem(bytes, total, chain, ICMP6_PP_HEADER, chain->field);
      DROP(drop_malformed);
    } else if (!options(bytes, total, end, chain)) return 0;
    chain->next = bytes[at];
    chain->field = at;
    chain->at = end;
  }
  return 1;
}
