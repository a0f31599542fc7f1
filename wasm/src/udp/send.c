/*
 * Upstream → client. A datagram that fits a packet is written as one, with the payload where it lies; datagrams of one
 * size that follow each other from one source to one client share a super-packet where the device takes it, and the
 * kernel cuts it (VIRTIO_NET_HDR_GSO_UDP_L4). A larger one is fragmented by lwIP.
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/udp.h"

/* linux/udp.h, UDP_MAX_SEGMENTS */
#define MAX_SEGMENTS 64
#define MAX_PACKET 65535

static struct udp_pcb *sender;
static u16_t identification;

/* The packet that the next datagram may join: the last of the egress table. */
static struct {
  u32_t row; /* + 1; 0: none */
  u32_t endpoint, source_port, segment, count, payload;
  u8_t source[16];
} run;

void tg_udp_send_init(void)
{
  sender = udp_new_ip_type(IPADDR_TYPE_ANY);
  identification = (u16_t)tg_random();
}

void tg_udp_run_end(void)
{
  run.row = 0;
}

static u32_t header_bytes(u32_t family)
{
  return (family == 6 ? IP6_HLEN : IP_HLEN) + UDP_HLEN;
}

/* Lengths and sums of the packet whose header is `packet`, with `payload` bytes behind it. */
static void measure(u8_t *packet, u32_t family, u32_t payload)
{
  u32_t ip_bytes = header_bytes(family) - UDP_HLEN, udp_bytes = UDP_HLEN + payload;
  struct udp_hdr *udp = (struct udp_hdr *)(packet + ip_bytes);
  udp->len = lwip_htons((u16_t)udp_bytes);
  if (family == 4) {
    struct ip_hdr *ip = (struct ip_hdr *)packet;
    IPH_LEN_SET(ip, lwip_htons((u16_t)(ip_bytes + udp_bytes)));
    IPH_CHKSUM_SET(ip, 0);
    IPH_CHKSUM_SET(ip, inet_chksum(ip, IP_HLEN));
  } else IP6H_PLEN_SET((struct ip6_hdr *)packet, (u16_t)udp_bytes);
  u32_t address_bytes = family == 6 ? 32 : 8;
  udp->chksum = tg_pseudo_sum(packet + ip_bytes - address_bytes, address_bytes, IP_PROTO_UDP, udp_bytes);
}

static void write_names(u8_t *packet, u32_t family, const struct tg_endpoint *to, const u8_t *source, u32_t source_port)
{
  memset(packet, 0, header_bytes(family));
  if (family == 4) {
    struct ip_hdr *ip = (struct ip_hdr *)packet;
    IPH_VHL_SET(ip, 4, IP_HLEN / 4);
    IPH_ID_SET(ip, lwip_htons(identification));
    IPH_TTL_SET(ip, UDP_TTL);
    IPH_PROTO_SET(ip, IP_PROTO_UDP);
    memcpy(&ip->src, source, 4);
    memcpy(&ip->dest, to->address, 4);
  } else {
    struct ip6_hdr *ip = (struct ip6_hdr *)packet;
    IP6H_VTCFL_SET(ip, 6, 0, 0);
    IP6H_NEXTH_SET(ip, IP6_NEXTH_UDP);
    IP6H_HOPLIM_SET(ip, UDP_TTL);
    memcpy(&ip->src, source, 16);
    memcpy(&ip->dest, to->address, 16);
  }
  struct udp_hdr *udp = (struct udp_hdr *)(packet + header_bytes(family) - UDP_HLEN);
  udp->src = lwip_htons((u16_t)source_port);
  udp->dest = lwip_htons((u16_t)to->port);
}

/* Without offload the sum must be whole. */
static void finish_sum(u8_t *packet, u32_t family, const u8_t *payload, u32_t length)
{
  struct udp_hdr *udp = (struct udp_hdr *)(packet + header_bytes(family) - UDP_HLEN);
  u32_t sum = tg_checksum(udp, UDP_HLEN) + tg_checksum(payload, (int)length); /* the field holds the pseudo-header's */
  sum = (sum & 0xffff) + (sum >> 16);
  u16_t whole = (u16_t)~((sum & 0xffff) + (sum >> 16));
  udp->chksum = whole == 0 ? 0xffff : whole; /* RFC 768: 0 means none */
}

static int joins(u32_t id, u32_t family, const u8_t *source, u32_t source_port, u32_t length)
{
  return tg_config.uso && run.row != 0 && run.row == tg_egress.packets && run.endpoint == id &&
         run.source_port == source_port && length > 0 && length <= run.segment && run.count < MAX_SEGMENTS &&
         run.payload == run.count * run.segment && /* no shorter one closed it */
         header_bytes(family) + run.payload + length <= MAX_PACKET &&
         memcmp(run.source, source, family == 6 ? 16 : 4) == 0;
}

static int send_whole(u32_t id, u32_t family, const u8_t *source, u32_t source_port, u8_t *payload, u32_t length)
{
  if (joins(id, family, source, source_port, length) && tg_egress_append(payload, length)) {
    run.count++;
    run.payload += length;
    if (family == 4) identification++;
    u8_t *packet = tg_egress_head(run.row - 1);
    measure(packet, family, run.payload);
    tg_egress_segments(run.row - 1, header_bytes(family), run.segment);
    return 1;
  }
  u8_t *packet = tg_egress_new(header_bytes(family), payload, length);
  if (packet == NULL) return 0;
  identification++;
  write_names(packet, family, &tg_endpoints[id], source, source_port);
  measure(packet, family, length);
  if (tg_config.vnet) tg_egress_partial(tg_egress.packets - 1, header_bytes(family) - UDP_HLEN, 6);
  else finish_sum(packet, family, payload, length);
  run.row = tg_egress.packets;
  run.endpoint = id;
  run.source_port = source_port;
  run.segment = run.payload = length;
  run.count = 1;
  memcpy(run.source, source, family == 6 ? 16 : 4);
  return 1;
}

static int send_fragments(u32_t id, u32_t family, const u8_t *source, u32_t source_port, u8_t *payload, u32_t length)
{
  const struct tg_endpoint *to = &tg_endpoints[id];
  struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_REF);
  if (p == NULL) return 0;
  p->payload = payload;
  ip_addr_t from, client;
  tg_ip_addr(&from, source, family);
  tg_ip_addr(&client, to->address, family);
  tg_mtu_device();
  sender->local_port = (u16_t)source_port;
  err_t err = udp_sendto_if_src(sender, p, &client, (u16_t)to->port, &tg_netif, &from);
  tg_mtu_super();
  pbuf_free(p);
  return err == ERR_OK;
}

/*
 * A datagram to the client of endpoint `id`, from `source`:`source_port` (of `family`). The payload must stay until the
 * egress is written. Returns 0, or 1 when the families differ, 2 when there was no room, 3 when the source is forged.
 */
TG_EXPORT(tg_udp_send)
u32_t tg_udp_send(u32_t id, u32_t family, const u8_t *source, u32_t source_port, u8_t *payload, u32_t length)
{
  if (tg_endpoints[id].family != family) {
    TG_COUNT(udp_family);
    return 1;
  }
  if (tg_source_forged(family, source, tg_endpoints[id].address)) {
    TG_COUNT(udp_forged);
    return 3;
  }
  int fits = header_bytes(family) + length <= tg_config.mtu;
  if (!(fits ? send_whole : send_fragments)(id, family, source, source_port, payload, length)) {
    TG_COUNT(drop_memory);
    return 2;
  }
  TG_COUNT(udp_out);
  return 0;
}
