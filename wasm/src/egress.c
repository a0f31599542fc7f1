/*
 * Packets to be written to the tun: a table of iovecs, one writev() each. A reference keeps each packet until the host
 * says that the table is written. With vnet_hdr a packet larger than the client's MSS is a super-segment, which the
 * kernel cuts, and transport checksums are left to it (linux/virtio_net.h).
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/udp.h"

/* A chain of more pieces is copied into one. */
#define MAX_PIECES 64

struct tg_message tg_egress_packets[TG_EGRESS_PACKETS];
struct tg_iovec tg_egress_iovecs[TG_EGRESS_IOVECS];
struct tg_egress tg_egress;
/* What stands before a packet, and its own header when it is no pbuf's. */
static struct head {
  struct tg_vnet vnet;
  u8_t packet[IP6_HLEN + TCP_HLEN];
} heads[TG_EGRESS_PACKETS] __attribute__((aligned(4)));

int tg_egress_pending(void)
{
  return tg_egress.packets != 0;
}

/* One packet of a batch may call forth a window's worth of segments. */
int tg_egress_almost_full(void)
{
  return tg_egress.packets > TG_EGRESS_PACKETS / 2 || tg_egress.iovecs > TG_EGRESS_IOVECS / 2;
}

/* The table is written. */
TG_EXPORT(tg_egress_done) void tg_egress_done(void)
{
  for (u32_t row = 0; row < tg_egress.packets; row++)
    if (tg_egress_packets[row].p != NULL) pbuf_free(tg_egress_packets[row].p);
  tg_egress.packets = tg_egress.iovecs = 0;
  tg_udp_run_end();
  tg_chunks_settle();
}

/* The SYN-ACK's MSS option says what the device carries, also when a timer sends it again (RFC 9293 3.7.1). */
static void clamp_mss(struct tcp_hdr *tcp, u32_t ip_bytes)
{
  u8_t *options = (u8_t *)(tcp + 1);
  if (TCPH_HDRLEN_BYTES(tcp) < TCP_HLEN + 4 || options[0] != LWIP_TCP_OPT_MSS) return;
  u32_t most = tg_config.mtu - ip_bytes - TCP_HLEN;
  if ((u32_t)(options[2] << 8 | options[3]) <= most) return;
  options[2] = (u8_t)(most >> 8);
  options[3] = (u8_t)most;
}

/* The sum of the pseudo-header, not complemented: the kernel adds the rest from csum_start on. */
u16_t tg_pseudo_sum(const u8_t *addresses, u32_t address_bytes, u32_t protocol, u32_t length)
{
  u32_t sum = tg_checksum(addresses, (int)address_bytes);
  sum += lwip_htons((u16_t)protocol) + (u32_t)lwip_htons((u16_t)length);
  sum = (sum & 0xffff) + (sum >> 16);
  return (u16_t)((sum & 0xffff) + (sum >> 16));
}

static u32_t segment_bytes(const u8_t *packet, const struct tcp_hdr *tcp, u32_t family)
{
  u8_t client[16] = {0}, dest[16] = {0};
  if (family == 6) {
    memcpy(dest, packet + 8, 16);
    memcpy(client, packet + 24, 16);
  } else {
    memcpy(dest, packet + 12, 4);
    memcpy(client, packet + 16, 4);
  }
  struct tg_flow *flow = tg_flow_find(client, lwip_ntohs(tcp->dest), dest, lwip_ntohs(tcp->src), family);
  return flow != NULL && flow->peer_mss != 0 ? flow->peer_mss : 536;
}

/* A TCP segment of lwIP's: the kernel sums it, and cuts it when it is larger than the client's MSS. */
static void offload(struct tg_vnet *vnet, struct pbuf *p, u32_t family)
{
  u8_t *packet = p->payload;
  u32_t header = family == 6 ? IP6_HLEN : IP_HLEN;
  int fragment = family == 4 && (IPH_OFFSET((struct ip_hdr *)packet) & PP_HTONS(IP_OFFMASK | IP_MF)) != 0;
  if (fragment || (family == 4 && IPH_HL_BYTES((struct ip_hdr *)packet) != IP_HLEN)) return;
  struct tcp_hdr *tcp = (struct tcp_hdr *)(packet + header);
  u32_t address_bytes = family == 6 ? 32 : 8;
  vnet->flags = TG_VNET_NEEDS_CSUM;
  vnet->csum_start = (u16_t)header;
  vnet->csum_offset = 16;
  tcp->chksum = tg_pseudo_sum(packet + header - address_bytes, address_bytes, IP_PROTO_TCP, p->tot_len - header);
  vnet->hdr_len = (u16_t)(header + TCPH_HDRLEN_BYTES(tcp));
  if (p->tot_len == vnet->hdr_len) return;
  u32_t mss = segment_bytes(packet, tcp, family);
  if ((u32_t)p->tot_len - vnet->hdr_len <= mss) return;
  vnet->gso_type = family == 6 ? TG_VNET_GSO_TCPV6 : TG_VNET_GSO_TCPV4;
  vnet->gso_size = (u16_t)mss;
}

static int full(void)
{
  return tg_egress.packets == TG_EGRESS_PACKETS || tg_egress.iovecs + MAX_PIECES + 1 > TG_EGRESS_IOVECS;
}

static void add_iovec(const void *at, u32_t length)
{
  tg_egress_iovecs[tg_egress.iovecs++] = (struct tg_iovec){(u32_t)(uintptr_t)at, length};
}

/* ---- packets whose header is made here (sender.c, udp/send.c) ---- */

/* A packet of `header` bytes, which the caller fills in, and a payload. NULL: no room. */
u8_t *tg_egress_new(u32_t header, const u8_t *payload, u32_t length)
{
  if (full()) return NULL;
  struct head *head = &heads[tg_egress.packets];
  struct tg_message *row = &tg_egress_packets[tg_egress.packets++];
  *row = (struct tg_message){tg_egress.iovecs, 1, NULL};
  head->vnet = (struct tg_vnet){0};
  if (tg_config.vnet) add_iovec(head, TG_VNET_BYTES + header);
  else add_iovec(head->packet, header);
  TG_COUNT(packets_out);
  tg_counters.bytes_out += header;
  tg_egress_append(payload, length);
  return head->packet;
}

/* More payload for the last packet. 0: no room. */
int tg_egress_append(const u8_t *payload, u32_t length)
{
  if (length == 0) return 1;
  if (tg_egress.iovecs == TG_EGRESS_IOVECS) return 0;
  add_iovec(payload, length);
  tg_egress_packets[tg_egress.packets - 1].iovecs++;
  tg_counters.bytes_out += length;
  return 1;
}

u8_t *tg_egress_head(u32_t row)
{
  return heads[row].packet;
}

/* The kernel sums the packet from `start` on, where a pseudo-header's sum stands at `start + offset` already. */
void tg_egress_partial(u32_t row, u32_t start, u32_t offset)
{
  heads[row].vnet = (struct tg_vnet){.flags = TG_VNET_NEEDS_CSUM, .csum_start = (u16_t)start, .csum_offset = (u16_t)offset};
}

/* The packet carries datagrams of `segment` bytes each behind `header` bytes. */
void tg_egress_segments(u32_t row, u32_t header, u32_t segment)
{
  heads[row].vnet.gso_type = TG_VNET_GSO_UDP_L4;
  heads[row].vnet.gso_size = (u16_t)segment;
  heads[row].vnet.hdr_len = (u16_t)header;
}

/* The packet is TCP's, of `header` bytes with IP's, to be cut into segments of `segment` bytes each; 0: it is one. */
void tg_egress_super(u32_t row, u32_t family, u32_t header, u32_t segment)
{
  struct tg_vnet *vnet = &heads[row].vnet;
  vnet->hdr_len = (u16_t)header;
  if (segment == 0) return;
  vnet->gso_type = family == 6 ? TG_VNET_GSO_TCPV6 : TG_VNET_GSO_TCPV4;
  vnet->gso_size = (u16_t)segment;
}

/* ---- packets of lwIP's ---- */

static err_t egress(struct pbuf *p, u32_t family)
{
  u32_t pieces = pbuf_clen(p);
  if (full()) {
    TG_COUNT(drop_egress); /* TCP sends it again */
    return ERR_MEM;
  }
  u8_t *packet = p->payload;
  u32_t header = family == 6 ? IP6_HLEN : IP_HLEN;
  int is_tcp = (family == 6 ? packet[6] : packet[9]) == IP_PROTO_TCP && p->len >= header + TCP_HLEN;
  if (is_tcp && tg_config.vnet) {
    struct tcp_hdr *tcp = (struct tcp_hdr *)(packet + header);
    if (TCPH_FLAGS(tcp) & TCP_SYN) clamp_mss(tcp, header);
  }
  struct tg_vnet *vnet = &heads[tg_egress.packets].vnet;
  *vnet = (struct tg_vnet){0};
  if (tg_config.vnet && is_tcp) offload(vnet, p, family);
  if (pieces > MAX_PIECES) {
    p = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
    if (p == NULL) {
      TG_COUNT(drop_memory);
      return ERR_MEM;
    }
  } else pbuf_ref(p);

  struct tg_message *row = &tg_egress_packets[tg_egress.packets++];
  row->p = p;
  row->first_iovec = tg_egress.iovecs;
  if (tg_config.vnet) add_iovec(vnet, TG_VNET_BYTES);
  for (struct pbuf *piece = p; piece != NULL; piece = piece->next) add_iovec(piece->payload, piece->len);
  row->iovecs = tg_egress.iovecs - row->first_iovec;
  TG_COUNT(packets_out);
  tg_counters.bytes_out += p->tot_len;
  return ERR_OK;
}

err_t tg_egress4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
  (void)netif;
  (void)to;
  return egress(p, 4);
}

err_t tg_egress6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to)
{
  (void)netif;
  (void)to;
  return egress(p, 6);
}
