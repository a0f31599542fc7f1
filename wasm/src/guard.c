/*
 * The first look at a packet: is it IP at all, do its lengths fit, who is it for. Whole packets go straight to their
 * transport with lwIP's current-packet fields filled; fragments go through lwIP's reassembly and come back.
 */
#include "tungate.h"

#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"

/* RFC 8200 4.1 names fewer; more is an attack. */
#define MAX_EXTENSION_HEADERS 8

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

static int bad_source4(u32_t address) /* host order */
{
  return address >> 24 == 0 || address >> 24 == 127 || address >> 28 >= 0xe;
}

static int bad_destination4(u32_t address)
{
  return address == 0 || address >> 24 == 127 || address >> 28 == 0xe || address == 0xffffffff;
}

static void guard4(struct pbuf *p, int vouched, u32_t segment)
{
  const struct ip_hdr *header = p->payload;
  if (p->len < IP_HLEN) DROP(p, drop_malformed);
  u32_t header_bytes = IPH_HL_BYTES(header), total = lwip_ntohs(IPH_LEN(header));
  if (header_bytes < IP_HLEN || header_bytes > total || total > p->len) DROP(p, drop_malformed);
  if (inet_chksum(header, (u16_t)header_bytes) != 0) DROP(p, drop_checksum);
  if (total < p->tot_len) pbuf_realloc(p, (u16_t)total);
  u32_t source = lwip_ntohl(header->src.addr), destination = lwip_ntohl(header->dest.addr);
  if (bad_source4(source) || bad_destination4(destination) || source == destination) DROP(p, drop_address);

  u32_t protocol = IPH_PROTO(header);
  if (protocol != IP_PROTO_TCP && protocol != IP_PROTO_UDP && protocol != IP_PROTO_ICMP) DROP(p, drop_protocol);
  if ((IPH_OFFSET(header) & PP_HTONS(IP_OFFMASK | IP_MF)) != 0) {
    if (protocol == IP_PROTO_ICMP && !tg_config.echo) DROP(p, drop_icmp);
    tg_fragment4(p);
    return;
  }
  if (protocol == IP_PROTO_ICMP) {
    const u8_t *type = (const u8_t *)header + header_bytes;
    if (!tg_config.echo || total < header_bytes + 8 || *type != ICMP_ECHO) DROP(p, drop_icmp);
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

static int bad_address6(const u8_t *address)
{
  static const u8_t zeros[15];
  if (memcmp(address, zeros, 15) == 0 && address[15] <= 1) return 1; /* :: and ::1 */
  if (memcmp(address, zeros, 10) == 0 && address[10] == 0xff && address[11] == 0xff) return 1; /* ::ffff:0:0/96 */
  return address[0] == 0xff;
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

  u32_t next = IP6H_NEXTH(header), at = IP6_HLEN;
  const u8_t *bytes = p->payload;
  for (int depth = 0; next == IP6_NEXTH_HOPBYHOP || next == IP6_NEXTH_DESTOPTS; depth++) {
    if (depth == MAX_EXTENSION_HEADERS || at + 8 > total) DROP(p, drop_malformed);
    next = bytes[at];
    at += 8 + 8u * bytes[at + 1];
    if (at > total) DROP(p, drop_malformed);
  }
  switch (next) {
  case IP6_NEXTH_FRAGMENT:
    if (at + 8 > total) DROP(p, drop_malformed);
    tg_fragment6(p, bytes[at]);
    return;
  case IP6_NEXTH_ICMP6:
    if (!tg_config.echo || at + 8 > total || bytes[at] != ICMP6_TYPE_EREQ) DROP(p, drop_icmp);
    memcpy(tg_netif.ip6_addr[0].u_addr.ip6.addr, &header->dest, 16);
    tg_mtu_device();
    ip6_input(p, &tg_netif);
    tg_mtu_super();
    return;
  case IP6_NEXTH_TCP:
  case IP6_NEXTH_UDP:
    ip_addr_copy_from_ip6_packed(ip_data.current_iphdr_dest, header->dest);
    ip_addr_copy_from_ip6_packed(ip_data.current_iphdr_src, header->src);
    transport(p, next, at, vouched, segment);
    return;
  default:
    DROP(p, drop_protocol);
  }
}

/* `vouched`: the kernel answers for the transport's checksum. `segment`: see tg_udp_packet. */
void tg_guard(struct pbuf *p, int vouched, u32_t segment)
{
  u8_t version = (u8_t)(*(const u8_t *)p->payload >> 4);
  if (version == 4) guard4(p, vouched, segment);
  else if (version == 6) guard6(p, vouched, segment);
  else DROP(p, drop_malformed);
}
