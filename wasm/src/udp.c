/*
 * Datagrams. From clients: each becomes a row with its payload as iovecs, and room in front for an upstream's header,
 * so that a whole batch goes out in one system call. From upstreams: landing slots, whose payload is sent to the
 * client without a copy. A client endpoint (address and port) has a number; the host keys its associations by it.
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/udp.h"

#define MAX_PIECES 4
#define BUCKETS (TG_MAX_ENDPOINTS * 2)
#define NONE 0xffffffffu

struct tg_endpoint tg_endpoints[TG_MAX_ENDPOINTS];

struct tg_datagram tg_datagrams[TG_SLOTS];
struct tg_message tg_datagram_messages[TG_SLOTS];
struct tg_iovec tg_datagram_iovecs[TG_SLOTS * (1 + MAX_PIECES)];
u32_t tg_datagram_count;

static struct pbuf *held[TG_SLOTS];
static u8_t headers[TG_SLOTS][TG_HEADER_ROOM] __attribute__((aligned(8)));

/* Landing slots for datagrams from upstreams: {offset, length} rows for recvDatagrams. */
static u8_t landing[TG_LANDING_SLOTS][TG_LANDING_BYTES] __attribute__((aligned(16)));
struct tg_iovec tg_landing_table[TG_LANDING_SLOTS];

static u32_t buckets[BUCKETS];
static u32_t free_head = NONE, fresh, used;
static struct udp_pcb *sender;

void tg_udp_init(void)
{
  sender = udp_new_ip_type(IPADDR_TYPE_ANY);
  for (u32_t slot = 0; slot < TG_LANDING_SLOTS; slot++)
    tg_landing_table[slot].offset = (u32_t)(uintptr_t)landing[slot];
}

/* ---- endpoints ---- */

static u32_t *bucket_of(const u8_t *address, u32_t port)
{
  return &buckets[tg_hash(address, port, 1) % BUCKETS];
}

static struct tg_endpoint *endpoint(const u8_t *address, u32_t port, u32_t family)
{
  u32_t *bucket = bucket_of(address, port);
  for (u32_t id = *bucket; id != 0; id = tg_endpoints[id - 1].hash_next) {
    struct tg_endpoint *known = &tg_endpoints[id - 1];
    if (known->port == port && known->family == family && memcmp(known->address, address, 16) == 0) return known;
  }
  if (used >= tg_config.max_endpoints) return NULL;
  u32_t id = free_head;
  if (id != NONE) free_head = tg_endpoints[id].free_next;
  else id = fresh++;
  used++;
  struct tg_endpoint *made = &tg_endpoints[id];
  *made = (struct tg_endpoint){.family = family, .port = port, .used = 1, .hash_next = *bucket};
  memcpy(made->address, address, 16);
  *bucket = id + 1;
  return made;
}

/* The host has forgotten the endpoint: its number may be given anew. */
TG_EXPORT(tg_udp_forget) void tg_udp_forget(u32_t id)
{
  struct tg_endpoint *gone = &tg_endpoints[id];
  if (!gone->used) return;
  u32_t *link = bucket_of(gone->address, gone->port);
  while (*link != id + 1) link = &tg_endpoints[*link - 1].hash_next;
  *link = gone->hash_next;
  gone->used = 0;
  gone->free_next = free_head;
  free_head = id;
  used--;
}

TG_EXPORT(tg_endpoints_used) u32_t tg_endpoints_used(void)
{
  return used;
}

/* ---- client → upstream ---- */

/* The batch's datagrams have been sent, or dropped: their slots are free again. */
TG_EXPORT(tg_udp_release) void tg_udp_release(void)
{
  for (u32_t row = 0; row < tg_datagram_count; row++) pbuf_free(held[row]);
  tg_datagram_count = 0;
}

/* A row per datagram; at most one per packet of the batch, so the table cannot overflow. */
static void queue(struct pbuf *p, struct tg_endpoint *from, u32_t family, u32_t dest_port)
{
  u32_t row = tg_datagram_count++;
  struct tg_datagram *datagram = &tg_datagrams[row];
  held[row] = p;
  datagram->endpoint = (u32_t)(from - tg_endpoints);
  datagram->family = family;
  datagram->dest_port = dest_port;
  datagram->length = p->tot_len;
  tg_put_address(datagram->dest, ip_current_dest_addr());
  datagram->header = (u32_t)(uintptr_t)headers[row];
  u32_t at = row * (1 + MAX_PIECES), count = 1;
  tg_datagram_iovecs[at] = (struct tg_iovec){datagram->header, 0};
  for (struct pbuf *piece = p; piece != NULL; piece = piece->next)
    tg_datagram_iovecs[at + count++] = (struct tg_iovec){(u32_t)(uintptr_t)piece->payload, piece->len};
  datagram->first_iovec = at;
  tg_datagram_messages[row] = (struct tg_message){at, count, NULL};
}

void tg_udp_packet(struct pbuf *p, int vouched)
{
  struct udp_hdr *header = p->payload;
  double *reason = &tg_counters.drop_malformed;
  if (p->len < UDP_HLEN) goto drop;
  u32_t length = lwip_ntohs(header->len);
  u32_t family = IP_IS_V6(ip_current_src_addr()) ? 6 : 4;
  if (length < UDP_HLEN || length > p->tot_len || header->dest == 0) goto drop;
  if (length < p->tot_len) pbuf_realloc(p, (u16_t)length);
  if (header->chksum == 0 && family == 6 && !vouched) { /* RFC 8200 8.1 */
    reason = &tg_counters.drop_checksum;
    goto drop;
  }
  if (!vouched && header->chksum != 0 &&
      ip_chksum_pseudo(p, IP_PROTO_UDP, p->tot_len, ip_current_src_addr(), ip_current_dest_addr()) != 0) {
    reason = &tg_counters.drop_checksum;
    goto drop;
  }
  u8_t client[16];
  tg_put_address(client, ip_current_src_addr());
  struct tg_endpoint *from = endpoint(client, lwip_ntohs(header->src), family);
  if (from == NULL) {
    reason = &tg_counters.drop_flow_limit;
    goto drop;
  }
  u32_t dest_port = lwip_ntohs(header->dest);
  pbuf_remove_header(p, UDP_HLEN);
  TG_COUNT(udp_in);
  queue(p, from, family, dest_port);
  return;
drop:
  *reason += 1;
  pbuf_free(p);
}

/* The upstream carries no datagrams there: port unreachable (or another tg_answer) to the client. */
TG_EXPORT(tg_udp_refuse) void tg_udp_refuse(u32_t id, const u8_t *dest, u32_t dest_port, u32_t answer)
{
  const struct tg_endpoint *to = &tg_endpoints[id];
  struct tg_quote quote = {to->family, IP_PROTO_UDP, to->address, dest, to->port, dest_port, 0};
  tg_unreachable(&quote, answer);
}

/* ---- upstream → client ---- */

/*
 * A datagram to the client of endpoint `id`, from `source`:`source_port` (of `family`). The payload must stay until the
 * egress is written. Returns 0, or 1 when the families differ, or 2 when there was no memory.
 */
TG_EXPORT(tg_udp_send)
u32_t tg_udp_send(u32_t id, u32_t family, const u8_t *source, u32_t source_port, u8_t *payload, u32_t length)
{
  const struct tg_endpoint *to = &tg_endpoints[id];
  if (to->family != family) {
    TG_COUNT(udp_family);
    return 1;
  }
  struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_REF);
  if (p == NULL) {
    TG_COUNT(drop_memory);
    return 2;
  }
  p->payload = payload;
  ip_addr_t from, client;
  tg_ip_addr(&from, source, family);
  tg_ip_addr(&client, to->address, family);
  /* One piece goes out with its checksum left to the kernel; fragments need the whole sum beforehand. */
  u32_t whole = length + UDP_HLEN + (family == 6 ? IP6_HLEN : IP_HLEN);
  u16_t sums = tg_netif.chksum_flags;
  if (tg_config.vnet && whole <= tg_config.mtu)
    NETIF_SET_CHECKSUM_CTRL(&tg_netif, (u16_t)(sums & ~NETIF_CHECKSUM_GEN_UDP));
  tg_mtu_device();
  sender->local_port = (u16_t)source_port;
  err_t err = udp_sendto_if_src(sender, p, &client, (u16_t)to->port, &tg_netif, &from);
  tg_mtu_super();
  NETIF_SET_CHECKSUM_CTRL(&tg_netif, sums);
  pbuf_free(p);
  if (err != ERR_OK) {
    TG_COUNT(drop_memory);
    return 2;
  }
  TG_COUNT(udp_out);
  return 0;
}
