/*
 * Truthful errors. The packet that is complained of is written again from its names (RFC 792 and RFC 4443 want its IP
 * header and at least 8 bytes), so that an error can be sent long after the packet itself is gone.
 */
#include "tungate.h"

#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/udp.h"

/* RFC 8200 5: what every link carries, and RFC 4443 2.4 (c): what an error may have. */
#define MIN_MTU6 1280

static int allowed(struct tg_rate *rate)
{
  if (tg_rate_allows(rate, TG_ICMP_PER_SECOND)) return 1;
  TG_COUNT(icmp_limited);
  return 0;
}

static int error_allowed(void)
{
  static struct tg_rate errors;
  return allowed(&errors);
}

int tg_echo_allowed(void)
{
  static struct tg_rate replies;
  return allowed(&replies);
}

/* tg_answer → code; RFC 792, RFC 1812 5.2.7.1; RFC 4443 3.1. */
static u8_t code_of(u32_t family, u32_t answer)
{
  switch (answer) {
  case TG_ANSWER_NET_UNREACHABLE: return family == 6 ? ICMP6_DUR_NO_ROUTE : ICMP_DUR_NET;
  case TG_ANSWER_PROHIBITED: return family == 6 ? ICMP6_DUR_PROHIBITED : 13;
  case TG_ANSWER_PORT_UNREACHABLE: return family == 6 ? ICMP6_DUR_PORT : ICMP_DUR_PORT;
  default: return family == 6 ? ICMP6_DUR_ADDRESS : ICMP_DUR_HOST;
  }
}

static u32_t put_transport(u8_t *at, const struct tg_quote *quote)
{
  if (quote->protocol == IP_PROTO_TCP) {
    struct tcp_hdr *tcp = (struct tcp_hdr *)at;
    memset(tcp, 0, TCP_HLEN);
    tcp->src = lwip_htons((u16_t)quote->client_port);
    tcp->dest = lwip_htons((u16_t)quote->dest_port);
    tcp->seqno = lwip_htonl(quote->sequence);
    TCPH_HDRLEN_FLAGS_SET(tcp, TCP_HLEN / 4, TCP_SYN);
    return TCP_HLEN;
  }
  struct udp_hdr *udp = (struct udp_hdr *)at;
  udp->src = lwip_htons((u16_t)quote->client_port);
  udp->dest = lwip_htons((u16_t)quote->dest_port);
  udp->len = lwip_htons(UDP_HLEN);
  udp->chksum = 0;
  return UDP_HLEN;
}

static void unreachable4(struct pbuf *p, const struct tg_quote *quote, u8_t code)
{
  struct ip_hdr *ip = p->payload;
  memset(ip, 0, IP_HLEN);
  u32_t bytes = IP_HLEN + put_transport((u8_t *)p->payload + IP_HLEN, quote);
  IPH_VHL_SET(ip, 4, IP_HLEN / 4);
  IPH_LEN_SET(ip, lwip_htons((u16_t)bytes));
  IPH_TTL_SET(ip, 64);
  IPH_PROTO_SET(ip, (u8_t)quote->protocol);
  memcpy(&ip->src, quote->client, 4);
  memcpy(&ip->dest, quote->dest, 4);
  IPH_CHKSUM_SET(ip, (u16_t)~tg_checksum(ip, IP_HLEN));
  pbuf_realloc(p, (u16_t)bytes);
  memcpy(&tg_netif.ip_addr.u_addr.ip4.addr, quote->dest, 4); /* the error comes from the destination's address */
  icmp_dest_unreach(p, code);
}

static void unreachable6(struct pbuf *p, const struct tg_quote *quote, u8_t code)
{
  struct ip6_hdr *ip = p->payload;
  u32_t bytes = put_transport((u8_t *)p->payload + IP6_HLEN, quote);
  IP6H_VTCFL_SET(ip, 6, 0, 0);
  IP6H_PLEN_SET(ip, bytes);
  IP6H_NEXTH_SET(ip, (u8_t)quote->protocol);
  IP6H_HOPLIM_SET(ip, 64);
  memcpy(&ip->src, quote->client, 16);
  memcpy(&ip->dest, quote->dest, 16);
  pbuf_realloc(p, (u16_t)(IP6_HLEN + bytes));
  /* icmp6_dest_unreach answers the packet "being received" */
  ip_data.current_netif = ip_data.current_input_netif = &tg_netif;
  tg_ip_addr(&ip_data.current_iphdr_src, quote->client, 6);
  tg_ip_addr(&ip_data.current_iphdr_dest, quote->dest, 6);
  memcpy(tg_netif.ip6_addr[0].u_addr.ip6.addr, quote->dest, 16);
  icmp6_dest_unreach(p, code);
}

void tg_unreachable(const struct tg_quote *quote, u32_t answer)
{
  if (!error_allowed()) return;
  struct pbuf *p = pbuf_alloc(PBUF_RAW, IP6_HLEN + TCP_HLEN, PBUF_RAM);
  if (p == NULL) {
    TG_COUNT(drop_memory);
    return;
  }
  u8_t code = code_of(quote->family, answer);
  tg_mtu_device();
  if (quote->family == 6) unreachable6(p, quote, code);
  else unreachable4(p, quote, code);
  tg_mtu_super();
  pbuf_free(p);
  TG_COUNT(icmp_out);
}

void tg_error4(u32_t type, u32_t code, const u8_t *packet, u32_t length)
{
  if (!error_allowed()) return;
  ip4_addr_t client, dest;
  const struct ip_hdr *about = (const struct ip_hdr *)packet;
  ip4_addr_copy(client, about->src);
  ip4_addr_copy(dest, about->dest);
  struct pbuf *p = pbuf_alloc(PBUF_IP, (u16_t)(8 + length), PBUF_RAM);
  if (p == NULL) {
    TG_COUNT(drop_memory);
    return;
  }
  struct icmp_echo_hdr *header = p->payload;
  memset(header, 0, sizeof *header);
  ICMPH_TYPE_SET(header, (u8_t)type);
  ICMPH_CODE_SET(header, (u8_t)code);
  memcpy(header + 1, packet, length);
  header->chksum = inet_chksum(header, p->len);
  if (ip4_output_if(p, &dest, &client, 64, 0, IP_PROTO_ICMP, &tg_netif) == ERR_OK) TG_COUNT(icmp_out);
  pbuf_free(p);
}

void tg_error6(u32_t type, u32_t code, u32_t word, const u8_t *packet, u32_t length)
{
  if (!error_allowed()) return;
  ip6_addr_t client, dest;
  const struct ip6_hdr *about = (const struct ip6_hdr *)packet;
  ip6_addr_copy_from_packed(client, about->src);
  ip6_addr_copy_from_packed(dest, about->dest);
  u32_t quoted = LWIP_MIN(length, MIN_MTU6 - IP6_HLEN - 8);
  struct pbuf *p = pbuf_alloc(PBUF_IP, (u16_t)(8 + quoted), PBUF_RAM);
  if (p == NULL) {
    TG_COUNT(drop_memory);
    return;
  }
  struct icmp6_hdr *header = p->payload;
  *header = (struct icmp6_hdr){.type = (u8_t)type, .code = (u8_t)code, .data = lwip_htonl(word)};
  memcpy(header + 1, packet, quoted);
  header->chksum = ip6_chksum_pseudo(p, IP6_NEXTH_ICMP6, p->tot_len, &dest, &client);
  if (ip6_output_if(p, &dest, &client, 64, 0, IP6_NEXTH_ICMP6, &tg_netif) == ERR_OK) TG_COUNT(icmp_out);
  pbuf_free(p);
}
