/*
 * The first look at a packet: is it IP at all, do its lengths fit, who is it for. Whole packets go straight to their
 * transport with lwIP's current-packet fields filled; fragments are put together first (fragments.c).
 */
#include "tungate.h"

#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"

/* IPv4 options (RFC 791 3.1). */
#define LOOSE_SOURCE_ROUTE 131
#define STRICT_SOURCE_ROUTE 137

static void drop(struct pbuf *p, double *counter)
{
  *counter += 1;
  pbuf_free(p);
}
#define DROP(p, reason) do { drop(p, &tg_counters.reason); return; } while (0)

static void current(u32_t header)
{
  ip_data.current_netif = ip_data.current_input_netif = &tg_netif;
  ip_data.current_ip_header_tot_len = (u16_t)header;
  ip_data.current_ip4_header = NULL;
  ip_data.current_ip6_header = NULL;
}

static void transport(struct pbuf *p, u32_t protocol, u32_t header, int vouched, u32_t segment)
{
  current(header);
  pbuf_remove_header(p, header);
  if (protocol == IP_PROTO_TCP) tg_tcp_packet(p, vouched);
  else tg_udp_packet(p, vouched, segment);
}

/*
 * RFC 1122 3.2.1.3: this network, loopback, groups, broadcast, and as a source what is reserved. To 240.0.0.0/4 some networks
 * route: the upstream knows.
 */
static int bad_source4(u32_t address) /* network order */
{
  u32_t first = address & 0xff;
  return first == 0 || first == 127 || first >= 224;
}

static int bad_destination4(u32_t address)
{
  u32_t first = address & 0xff;
  return first == 0 || first == 127 || (first >= 224 && first < 240) || address == 0xffffffff;
}

/* RFC 791 3.1; source routes are no client's business (RFC 7126 4.3, 4.4). 0: dropped, and counted. */
static int options4(const u8_t *at, const u8_t *end)
{
  while (at < end && *at != 0) {
    if (*at == 1) {
      at++;
      continue;
    }
    if (end - at < 2 || at[1] < 2 || at[1] > end - at) {
      TG_COUNT(drop_malformed);
      return 0;
    }
    if (*at == LOOSE_SOURCE_ROUTE || *at == STRICT_SOURCE_ROUTE) {
      TG_COUNT(drop_option);
      return 0;
    }
    at += at[1];
  }
  return 1;
}

/* Whether the header's checksum is wrong; nearly all headers have 20 bytes. */
static int bad_sum4(const struct ip_hdr *header, u32_t bytes)
{
  if (bytes != IP_HLEN) return inet_chksum(header, (u16_t)bytes) != 0;
  u32_t words[IP_HLEN / 4];
  memcpy(words, header, sizeof words);
  u64_t sum = (u64_t)words[0] + words[1] + words[2] + words[3] + words[4];
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
  return (sum & 0xffff) + (sum >> 16) != 0xffff;
}

static void guard4(struct pbuf *p, int vouched, u32_t segment)
{
  const struct ip_hdr *header = p->payload;
  if (p->len < IP_HLEN) DROP(p, drop_malformed);
  u32_t header_bytes = IPH_HL_BYTES(header), total = lwip_ntohs(IPH_LEN(header));
  if (header_bytes < IP_HLEN || header_bytes > total || total > p->len) DROP(p, drop_malformed);
  if (bad_sum4(header, header_bytes)) DROP(p, drop_checksum);
  if (total < p->tot_len) pbuf_realloc(p, (u16_t)total);
  u32_t source = header->src.addr, destination = header->dest.addr;
  if (bad_source4(source) || bad_destination4(destination) || source == destination) DROP(p, drop_address);

  if (header_bytes > IP_HLEN && !options4((const u8_t *)(header + 1), (const u8_t *)header + header_bytes)) {
    pbuf_free(p);
    return;
  }
  u32_t protocol = IPH_PROTO(header);
  if (protocol != IP_PROTO_TCP && protocol != IP_PROTO_UDP && protocol != IP_PROTO_ICMP) DROP(p, drop_protocol);
  if ((IPH_OFFSET(header) & PP_HTONS(IP_OFFMASK | IP_MF)) != 0) {
    if (protocol == IP_PROTO_ICMP && !tg_config.echo) DROP(p, drop_icmp);
    tg_fragment4(p, header_bytes);
    return;
  }
  if (protocol == IP_PROTO_ICMP) {
    const u8_t *type = (const u8_t *)header + header_bytes;
    if (!tg_config.echo || total < header_bytes + 8 || *type != ICMP_ECHO) DROP(p, drop_icmp);
    if (inet_chksum(type, (u16_t)(total - header_bytes)) != 0) DROP(p, drop_checksum);
    if (!tg_echo_allowed()) {
      pbuf_free(p);
      return;
    }
    tg_netif.ip_addr.u_addr.ip4.addr = header->dest.addr;
    tg_mtu_device();
    ip4_input(p, &tg_netif);
    tg_mtu_super();
    return;
  }
  ip_addr_copy_from_ip4(ip_data.current_iphdr_dest, header->dest);
  ip_addr_copy_from_ip4(ip_data.current_iphdr_src, header->src);
  transport(p, protocol, header_bytes, vouched, segment);
}

/* Unspecified, loopback and what else has IPv4 addresses in it (RFC 4291 2.5.5), groups. */
static int bad_address6(const u8_t *address)
{
  static const u8_t zeros[12];
  if (memcmp(address, zeros, 12) == 0) return 1; /* ::/96 */
  if (memcmp(address, zeros, 10) == 0 && address[10] == 0xff && address[11] == 0xff) return 1; /* ::ffff:0:0/96 */
  return address[0] == 0xff;
}

static void echo6(struct pbuf *p, u32_t at)
{
  const u8_t *type = (const u8_t *)p->payload + at;
  if (!tg_config.echo || at + 8 > p->len || *type != ICMP6_TYPE_EREQ) DROP(p, drop_icmp);
  current(at);
  pbuf_remove_header(p, at);
  if (ip6_chksum_pseudo(p, IP6_NEXTH_ICMP6, p->tot_len, ip6_current_src_addr(), ip6_current_dest_addr()) != 0)
    DROP(p, drop_checksum);
  if (!tg_echo_allowed()) {
    pbuf_free(p);
    return;
  }
  tg_mtu_device();
  icmp6_input(p, &tg_netif);
  tg_mtu_super();
}

/* What begins at `at`, extension headers left behind. 0: it is nothing that is known here, and p is the caller's. */
static int transport6(struct pbuf *p, u32_t next, u32_t at, int vouched, u32_t segment)
{
  if (next == IP6_NEXTH_TCP || next == IP6_NEXTH_UDP) transport(p, next, at, vouched, segment);
  else if (next == IP6_NEXTH_ICMP6) echo6(p, at);
  else return 0;
  return 1;
}

void tg_guard6_whole(struct pbuf *p, u32_t next)
{
  struct tg_chain chain = {.next = next};
  if (!tg_extensions(p->payload, p->tot_len, &chain)) {
    pbuf_free(p);
    return;
  }
  if (!transport6(p, chain.next, chain.at, 0, 0)) DROP(p, drop_protocol);
}

static void fragment6(struct pbuf *p, const struct tg_chain *chain)
{
  const u8_t *at = (const u8_t *)p->payload + chain->at;
  if (at[0] == IP6_NEXTH_ICMP6 && !tg_config.echo) DROP(p, drop_icmp);
  if (at[2] != 0 || (at[3] & ~6) != 0) {
    tg_fragment6(p, chain);
    return;
  }
  pbuf_remove_header(p, chain->at + IP6_FRAG_HLEN); /* the only one (RFC 6946) */
  tg_guard6_whole(p, at[0]);
}

static void guard6(struct pbuf *p, int vouched, u32_t segment)
{
  const struct ip6_hdr *header = p->payload;
  if (p->len < IP6_HLEN) DROP(p, drop_malformed);
  u32_t total = IP6_HLEN + IP6H_PLEN(header);
  if (total > p->len) DROP(p, drop_malformed);
  if (total < p->tot_len) pbuf_realloc(p, (u16_t)total);
  if (bad_address6((const u8_t *)&header->src) || bad_address6((const u8_t *)&header->dest) ||
      memcmp(&header->src, &header->dest, 16) == 0)
    DROP(p, drop_address);

  struct tg_chain chain = {.next = IP6H_NEXTH(header), .at = IP6_HLEN, .field = 6, .complain = 1};
  const u8_t *bytes = p->payload;
  if (!tg_extensions(bytes, total, &chain)) {
    pbuf_free(p);
    return;
  }
  ip_addr_copy_from_ip6_packed(ip_data.current_iphdr_dest, header->dest);
  ip_addr_copy_from_ip6_packed(ip_data.current_iphdr_src, header->src);
  if (transport6(p, chain.next, chain.at, vouched, segment)) return;
  if (chain.next == IP6_NEXTH_FRAGMENT) {
    if (chain.at + IP6_FRAG_HLEN > total) DROP(p, drop_malformed);
    fragment6(p, &chain);
    return;
  }
  if (chain.next != IP6_NEXTH_NONE) tg_parameter_problem(bytes, total, &chain, ICMP6_PP_HEADER, chain.field);
  DROP(p, drop_protocol);
}

/* `vouched`: the kernel answers for the transport's checksum. `segment`: see tg_udp_packet. */
void tg_guard(struct pbuf *p, int vouched, u32_t segment)
{
  u8_t version = (u8_t)(*(const u8_t *)p->payload >> 4);
  if (version == 4) guard4(p, vouched, segment);
  else if (version == 6) guard6(p, vouched, segment);
  else DROP(p, drop_malformed);
}
