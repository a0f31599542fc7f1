/* A fragment: do its numbers fit? And the whole, back to the guard. What waits for others is in reassembly.c. */
#include "tungate.h"

#include "lwip/icmp6.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"

static int refused(struct pbuf *p)
{
  TG_COUNT(drop_fragment);
  pbuf_free(p);
  return 0;
}

/* RFC 1858, RFC 3128, RFC 7112: the first fragment has the transport's header, and nothing is laid over it later. */
static int is_tiny(u32_t protocol, const struct tg_fragment *fragment)
{
  if (protocol == IP_PROTO_TCP && fragment->start > 0 && fragment->start < TCP_HLEN) return 1;
  u32_t least = protocol == IP_PROTO_TCP ? TCP_HLEN : 8;
  return fragment->start == 0 && fragment->end < least;
}

/* A fragment whose IP header, of `header_bytes`, is good. Eats p. */
void tg_fragment4(struct pbuf *p, u32_t header_bytes)
{
  const struct ip_hdr *header = p->payload;
  struct tg_fragment new = {.bytes = (const u8_t *)header + header_bytes,
                            .start = IPH_OFFSET_BYTES(header),
                            .more = (IPH_OFFSET(header) & PP_HTONS(IP_MF)) != 0,
                            .head = p->payload,
                            .head_bytes = header_bytes};
  u32_t length = p->tot_len - header_bytes;
  new.end = new.start + length;
  u32_t protocol = IPH_PROTO(header);
  if (length == 0 || (new.more && length % 8 != 0) || IP_HLEN + new.end > 65535 || is_tiny(protocol, &new)) {
    refused(p);
    return;
  }
  struct tg_fragment_names names = {.family = 4, .protocol = protocol, .id = IPH_ID(header)};
  memcpy(names.client, &header->src, 4);
  memcpy(names.dest, &header->dest, 4);
  struct tg_reassembly *datagram = tg_reassemble(&names, &new);
  pbuf_free(p);
  if (datagram == NULL) return;
  p = tg_reassembled(datagram, IP_HLEN, NULL);
  if (p == NULL) return;
  struct ip_hdr *ip = p->payload;
  memset(ip, 0, IP_HLEN); /* what options said was said of fragments */
  IPH_VHL_SET(ip, 4, IP_HLEN / 4);
  IPH_LEN_SET(ip, lwip_htons(p->tot_len));
  IPH_TTL_SET(ip, 64);
  IPH_PROTO_SET(ip, (u8_t)protocol);
  memcpy(&ip->src, names.client, 4);
  memcpy(&ip->dest, names.dest, 4);
  IPH_CHKSUM_SET(ip, (u16_t)~tg_checksum(ip, IP_HLEN));
  tg_guard(p, 0, 0);
}

/* A packet whose fragment header stands at chain->at. Eats p. */
void tg_fragment6(struct pbuf *p, const struct tg_chain *chain)
{
  const u8_t *packet = p->payload, *at = packet + chain->at;
  u32_t total = p->tot_len, length = total - chain->at - IP6_FRAG_HLEN;
  u32_t field = (u32_t)at[2] << 8 | at[3];
  struct tg_fragment new = {.bytes = at + IP6_FRAG_HLEN, .start = field & IP6_FRAG_OFFSET_MASK,
                            .more = field & IP6_FRAG_MORE_FLAG, .next = at[0], .head = packet,
                            .head_bytes = chain->at + IP6_FRAG_HLEN};
  new.end = new.start + length;
  if (new.more && length % 8 != 0) {
    tg_parameter_problem(packet, total, chain, ICMP6_PP_FIELD, 4); /* the payload length */
    refused(p);
    return;
  }
  if (chain->at - IP6_HLEN + new.end > 65535) {
    tg_parameter_problem(packet, total, chain, ICMP6_PP_FIELD, chain->at + 2); /* the fragment offset */
    refused(p);
    return;
  }
  if (length == 0 || is_tiny(at[0], &new)) {
    refused(p);
    return;
  }
  const struct ip6_hdr *header = p->payload;
  struct tg_fragment_names names = {.family = 6};
  memcpy(&names.id, at + 4, 4);
  memcpy(names.client, &header->src, 16);
  memcpy(names.dest, &header->dest, 16);
  struct tg_reassembly *datagram = tg_reassemble(&names, &new);
  pbuf_free(p);
  if (datagram == NULL) return;
  u8_t next;
  p = tg_reassembled(datagram, 0, &next);
  if (p == NULL) return;
  tg_ip_addr(&ip_data.current_iphdr_src, names.client, 6);
  tg_ip_addr(&ip_data.current_iphdr_dest, names.dest, 6);
  tg_guard6_whole(p, next);
}
