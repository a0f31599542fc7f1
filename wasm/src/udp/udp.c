/*
 * Datagrams from clients: each becomes a row with its payload as iovecs, and room in front for an upstream's header,
 * so that a whole batch goes out in one system call. A client endpoint (address and port) has a number; the host keys
 * its associations by it. The other way is udp/send.c.
 */
#include "tungate.h"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/udp.h"

/* Of a reassembled datagram. */
#define MAX_PIECES 4
/* Datagrams in one packet (VIRTIO_NET_HDR_GSO_UDP_L4); linux/udp.h UDP_MAX_SEGMENTS. */
#define MAX_SEGMENTS 128
#define BUCKETS (TG_MAX_ENDPOINTS * 2)
#define NONE 0xffffffffu

struct tg_endpoint tg_endpoints[TG_MAX_ENDPOINTS];

struct tg_datagram tg_datagrams[TG_DATAGRAMS];
struct tg_message tg_datagram_messages[TG_DATAGRAMS];
struct tg_iovec tg_datagram_iovecs[TG_DATAGRAMS * (1 + MAX_PIECES)];
u32_t tg_datagram_count;

static struct pbuf *held[TG_SLOTS]; /* one a packet of the batch, at most */
static u32_t held_count;
static u8_t headers[TG_DATAGRAMS][TG_HEADER_ROOM] __attribute__((aligned(8)));

/* Landing slots for datagrams from upstreams, and what recvDatagrams found in them: {offset, length} rows. */
static u8_t landing[TG_LANDING_SLOTS][TG_LANDING_BYTES] __attribute__((aligned(16)));
struct tg_iovec tg_landing_table[TG_LANDING_SLOTS];
struct tg_iovec tg_landed[TG_LANDING_SLOTS * TG_LANDED_SEGMENTS];

static u32_t buckets[BUCKETS];
static u32_t free_head = NONE, fresh, used;

void tg_udp_init(void)
{
  tg_udp_send_init();
  for (u32_t slot = 0; slot < TG_LANDING_SLOTS; slot++)
    tg_landing_table[slot].offset = (u32_t)(uintptr_t)landing[slot];
}

/* All landing slots, when nothing has come since the last call; how many iovecs that is. */
u32_t tg_landing_unneeded(struct tg_iovec *into)
{
  static struct tg_rest rest;
  if (!tg_rests(&rest, tg_counters.udp_out, 1)) return 0;
  *into = (struct tg_iovec){(u32_t)(uintptr_t)landing, sizeof landing};
  return 1;
}

/* ---- endpoints ---- */

static u32_t *bucket_of(const u8_t *address, u32_t port)
{
  return &buckets[tg_hash(address, port, 1) % BUCKETS];
}

/* The endpoint of a client; a new one has a place for its dial. NULL: there is none, `reason` is where that is counted. */
static struct tg_endpoint *endpoint(const u8_t *address, u32_t port, u32_t family, double **reason)
{
  u32_t *bucket = bucket_of(address, port);
  for (u32_t id = *bucket; id != 0; id = tg_endpoints[id - 1].hash_next) {
    struct tg_endpoint *known = &tg_endpoints[id - 1];
    if (known->port == port && known->family == family && memcmp(known->address, address, 16) == 0) return known;
  }
  struct tg_dial dial = {0};
  *reason = &tg_counters.drop_flow_limit;
  if (used >= tg_config.max_endpoints) return NULL;
  *reason = &tg_counters.dial_limit;
  if (!tg_dial_take(&dial, TG_DIAL_UDP, address, family)) return NULL;
  u32_t id = free_head;
  if (id != NONE) free_head = tg_endpoints[id].free_next;
  else id = fresh++;
  used++;
  struct tg_endpoint *made = &tg_endpoints[id];
  *made = (struct tg_endpoint){
    .family = family, .port = port, .used = 1, .hash_next = *bucket, .is_stranger = dial.is_stranger, .dial = dial};
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
  tg_dial_end(&gone->dial);
  gone->used = 0;
  gone->free_next = free_head;
  free_head = id;
  used--;
}

/* The endpoint has, or gets, a place for a dial; 0 when there is none. */
TG_EXPORT(tg_udp_dial) u32_t tg_udp_dial(u32_t id)
{
  struct tg_endpoint *of = &tg_endpoints[id];
  if (tg_dial_take(&of->dial, TG_DIAL_UDP, of->address, of->family)) return 1;
  TG_COUNT(dial_limit);
  return 0;
}

TG_EXPORT(tg_udp_dial_end) void tg_udp_dial_end(u32_t id)
{
  tg_dial_end(&tg_endpoints[id].dial);
}

TG_EXPORT(tg_endpoints_used) u32_t tg_endpoints_used(void)
{
  return used;
}

/* ---- client → upstream ---- */

/* The batch's datagrams have been sent, or dropped: their slots are free again. */
TG_EXPORT(tg_udp_release) void tg_udp_release(void)
{
  while (held_count > 0) pbuf_free(held[--held_count]);
  tg_datagram_count = 0;
}

/* The next packet might not find room for all its datagrams. */
int tg_datagrams_almost_full(void)
{
  return tg_datagram_count + MAX_SEGMENTS > TG_DATAGRAMS;
}

/* A row for `length` bytes of `p` from `skip` on. */
static void queue(struct pbuf *p, u32_t skip, u32_t length, u32_t endpoint, u32_t family, u32_t dest_port)
{
  u32_t row = tg_datagram_count++;
  struct tg_datagram *datagram = &tg_datagrams[row];
  datagram->endpoint = endpoint;
  datagram->family = family;
  datagram->dest_port = dest_port;
  datagram->length = length;
  tg_put_address(datagram->dest, ip_current_dest_addr());
  datagram->header = (u32_t)(uintptr_t)headers[row];
  u32_t at = row * (1 + MAX_PIECES), count = 1;
  tg_datagram_iovecs[at] = (struct tg_iovec){datagram->header, 0};
  for (struct pbuf *piece = p; piece != NULL && length > 0; piece = piece->next) {
    u32_t part = LWIP_MIN(length, piece->len - skip);
    tg_datagram_iovecs[at + count++] = (struct tg_iovec){(u32_t)(uintptr_t)piece->payload + skip, part};
    length -= part;
    skip = 0;
  }
  datagram->first_iovec = at;
  tg_datagram_messages[row] = (struct tg_message){at, count, NULL};
}

/*
 * Rows for a packet, which carries datagrams of `segment` bytes, the last one perhaps shorter (0: one datagram). More than
 * the kernel makes one of (UDP_MAX_SEGMENTS) were not asked to be read apart.
 */
static void queue_all(struct pbuf *p, u32_t segment, u32_t endpoint, u32_t family, u32_t dest_port)
{
  held[held_count++] = p;
  u32_t size = segment != 0 && p->next == NULL && p->len > segment ? segment : p->tot_len, at = 0;
  do {
    queue(p, at, LWIP_MIN(size, p->tot_len - at), endpoint, family, dest_port);
    TG_COUNT(udp_in);
    at += size;
  } while (at < p->tot_len);
}

void tg_udp_packet(struct pbuf *p, int vouched, u32_t segment)
{
  struct udp_hdr *header = p->payload;
  double *reason = &tg_counters.drop_malformed;
  if (p->len < UDP_HLEN) goto drop;
  u32_t length = lwip_ntohs(header->len);
  u32_t family = IP_IS_V6(ip_current_src_addr()) ? 6 : 4;
  if (length < UDP_HLEN || length > p->tot_len || header->dest == 0) goto drop;
  if (length < p->tot_len) pbuf_realloc(p, (u16_t)length);
  if (segment != 0 && length - UDP_HLEN > segment * MAX_SEGMENTS) {
    reason = &tg_counters.drop_vnet;
    goto drop;
  }
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
  struct tg_endpoint *from = endpoint(client, lwip_ntohs(header->src), family, &reason);
  if (from == NULL) goto drop;
  u32_t dest_port = lwip_ntohs(header->dest);
  pbuf_remove_header(p, UDP_HLEN);
  queue_all(p, segment, (u32_t)(from - tg_endpoints), family, dest_port);
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
