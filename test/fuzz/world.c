/* A host around the stack: it obeys the contract of tungate.h and nothing else, so whatever packets do is the stack's to bear. */
#include "fuzz.h"

#include "lwip/ip6.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define POISON(at, bytes) __asan_poison_memory_region(at, bytes)
#define UNPOISON(at, bytes) __asan_unpoison_memory_region(at, bytes)
#endif
#endif
#ifndef POISON
#define POISON(at, bytes) (void)(at), (void)(bytes)
#define UNPOISON(at, bytes) (void)(at), (void)(bytes)
#endif

/* Virtual milliseconds after which nothing may be left: reassembly gives up after 15 s, and its timer runs 2 s longer. */
#define SETTLE_MS 20000

#define AT(offset) ((u8_t *)(uintptr_t)(offset))

struct world world;
static u64_t now;
static u32_t rows, landed;
static size_t blocks_at_rest;

#ifdef __wasm__
_Noreturn void tg_trap(const char *message);
_Noreturn void fuzz_fail(const char *file, int line, const char *message)
{
  (void)file;
  (void)line;
  tg_trap(message);
}
#else
#include <stdio.h>

/* The linker's, for WebAssembly. */
extern u8_t __heap_base;
u8_t __heap_base;

/* Instead of __builtin_trap (build.sh). */
_Noreturn void fuzz_trapped(void);
_Noreturn void fuzz_trapped(void)
{
  fprintf(stderr, "the stack stopped: %s\n", tg_trap_message);
  abort();
}

_Noreturn void fuzz_fail(const char *file, int line, const char *message)
{
  fprintf(stderr, "%s:%d: %s\n", file, line, message);
  abort();
}
#endif

static void init(void)
{
  for (int at = 0; at < TG_SEED_BYTES; at++) tg_seed()[at] = (u8_t)(at * 7 + 1);
  tg_init(1500, 0, 0, 0, FUZZ_FLOWS, FUZZ_ENDPOINTS, 0);
  blocks_at_rest = fuzz_blocks;
}

void world_begin(u16_t choice)
{
  static const u16_t mtus[] = {1500, 1280, 65535, 9000, 576, 1400, 1492, 1300};
  if (now == 0) init();
  now = (now / 100000 + 1) * 100000; /* so that an input does the same whatever was before */
  tg_set_now((double)now);
  u32_t vnet = choice & 1;
  tg_config.vnet = vnet;
  tg_config.uso = vnet && (choice & 2);
  tg_config.echo = (choice & 4) != 0;
  tg_config.keep_alive_ms = choice & 8 ? 10000 : 0;
  tg_config.mtu = mtus[(choice >> 8) & 7];
  NETIF_SET_CHECKSUM_CTRL(&tg_netif, vnet ? NETIF_CHECKSUM_ENABLE_ALL & ~NETIF_CHECKSUM_GEN_TCP : NETIF_CHECKSUM_ENABLE_ALL);
  tg_mtu_super();
  world = (struct world){.auto_accept = choice & 16, .auto_finish = choice & 32, .auto_release = choice & 64,
                         .hold_egress = choice & 128};
  for (u32_t at = 0; at < FUZZ_CLIENTS; at++) {
    struct client *client = &world.clients[at];
    client->names = (struct names){.family = at % 2 ? 6 : 4, .client_port = 40000 + at / 4, .dest_port = 80};
    memcpy(client->names.client, at % 2 ? (u8_t[]){0xfd, 0x74, [15] = 1} : (u8_t[16]){198, 18, 0, 1}, 16);
    memcpy(client->names.dest, at % 2 ? (u8_t[]){0x20, 1, 0xd, 0xb8, [15] = 7} : (u8_t[16]){203, 0, 113, 7}, 16);
    client->names.dest[at % 2 ? 15 : 3] = (u8_t)(7 + at / 2);
    client->isn = client->sequence = 0x10000000u * at;
    client->window = 65535;
  }
}

/* ---- ingress ---- */

void world_put(const u8_t *packet, u32_t bytes, const u8_t *vnet)
{
  static const u8_t zeros[TG_VNET_BYTES];
  /* Linux speaks no IPv6 on such a device (IPV6_MIN_MTU). */
  if (tg_config.mtu < IP6_MIN_MTU_LENGTH && packet[0] >> 4 == 6) return;
  if (rows == 0) REQUIRE(tg_prepare() > 0, "every slot is taken");
  u8_t *slot = AT(tg_slot_table[rows].offset);
  UNPOISON(slot, TG_SLOT_BYTES);
  u32_t skip = tg_config.vnet ? TG_VNET_BYTES : 0;
  bytes = LWIP_MIN(bytes, TG_SLOT_BYTES - skip);
  if (skip > 0) memcpy(slot, vnet != NULL ? vnet : zeros, skip);
  memcpy(slot + skip, packet, bytes);
  POISON(slot + skip + bytes, TG_SLOT_BYTES - skip - bytes);
  tg_slot_table[rows++].length = skip + bytes;
  if (rows == tg_prepare()) world_batch();
}

static void accept(u32_t id)
{
  world.flows[id].up = tg_flows[id].isn + 1;
  tg_tcp_accept(id);
}

void world_read(u32_t id, u32_t limit)
{
  struct host_flow *host = &world.flows[id];
  /* where memory was out they are lost, and stay counted: nobody takes that for an orderly end */
  while (limit > 0 && tg_flows[id].rx_bytes > 0 && tg_flows[id].error != TG_ERR_MEMORY) {
    u32_t pieces = tg_tcp_peek(id), taken = 0;
    REQUIRE(pieces > 0 && pieces <= TG_IOVECS, "bytes that are counted cannot be read");
    for (u32_t piece = 0; piece < pieces && taken < limit; piece++) {
      u32_t part = LWIP_MIN(tg_iovecs[piece].length, limit - taken);
      int right = stream_is(AT(tg_iovecs[piece].offset), host->up + taken, part);
      REQUIRE(right || world.no_up_check, "a byte from the client is not the one that was sent");
      taken += part;
    }
    REQUIRE(taken <= tg_flows[id].rx_bytes, "more bytes than are counted can be read");
    host->up += taken;
    limit -= taken;
    tg_tcp_consume(id, taken);
  }
  if (tg_flows[id].rx_bytes > 0) tg_tcp_consume(id, 0);
}

static void datagrams(void)
{
  for (u32_t row = 0; row < tg_datagram_count; row++) {
    const struct tg_datagram *datagram = &tg_datagrams[row];
    const struct tg_message *message = &tg_datagram_messages[row];
    REQUIRE(datagram->endpoint < FUZZ_ENDPOINTS && tg_endpoints[datagram->endpoint].used, "a datagram of no endpoint");
    u32_t length = 0;
    for (u32_t piece = 1; piece < message->iovecs; piece++) {
      const struct tg_iovec *iovec = &tg_datagram_iovecs[message->first_iovec + piece];
      static volatile u8_t touched;
      for (u32_t index = 0; index < iovec->length; index++) touched = AT(iovec->offset)[index];
      (void)touched;
      length += iovec->length;
    }
    REQUIRE(length == datagram->length, "a datagram's iovecs are not as long as it");
    memset(AT(datagram->header), 0xee, TG_HEADER_ROOM);
  }
  tg_udp_release();
}

static void on_event(u32_t id, u32_t bits)
{
  REQUIRE(id < FUZZ_FLOWS, "an event of no flow");
  struct host_flow *host = &world.flows[id];
  struct tg_flow *flow = &tg_flows[id];
  if (bits & TG_EV_SYN) {
    REQUIRE(!host->known, "a flow's number was given twice");
    *host = (struct host_flow){.known = 1, .read_limit = 0xffffffff};
    if (world.auto_accept) accept(id);
  }
  REQUIRE(host->known, "an event of a flow that was released");
  if (bits & TG_EV_OPEN && flow->pcb != NULL) {
    host->opened = 1;
    host->down = flow->pcb->snd_nxt;
  }
  if (bits & TG_EV_DATA) world_read(id, host->read_limit);
  if (bits & TG_EV_FIN && world.auto_finish) {
    host->finished = 1;
    tg_tcp_finish(id);
  }
  if (bits & TG_EV_GONE) {
    REQUIRE(flow->state == TG_GONE, "a flow that is not gone is said to be");
    if (world.auto_release) world_release(id);
  }
}

static void drain(void)
{
  for (s32_t id = tg_next_event(); id >= 0; id = tg_next_event()) on_event((u32_t)id, tg_event_bits);
  datagrams();
}

void world_batch(void)
{
  u32_t count = rows;
  rows = 0;
  for (u32_t done = 0; done < count;) {
    done = tg_ingress(done, count);
    drain();
    if (done < count) world_flush();
  }
  drain();
  if (!world.hold_egress) world_flush();
  if (!tg_egress_pending()) REQUIRE(tg_prepare() == TG_SLOTS, "a slot is still taken behind its batch");
}

/* ---- egress ---- */

void world_flush(void)
{
  static u8_t packet[TG_VNET_BYTES + 65535];
  REQUIRE(tg_egress.packets <= TG_EGRESS_PACKETS && tg_egress.iovecs <= TG_EGRESS_IOVECS, "the egress table is overfull");
  for (u32_t row = 0; row < tg_egress.packets; row++) {
    const struct tg_message *message = &tg_egress_packets[row];
    u32_t bytes = 0;
    for (u32_t piece = 0; piece < message->iovecs; piece++) {
      const struct tg_iovec *iovec = &tg_egress_iovecs[message->first_iovec + piece];
      REQUIRE(bytes + iovec->length <= sizeof packet, "a packet that is too long");
      memcpy(packet + bytes, AT(iovec->offset), iovec->length);
      bytes += iovec->length;
    }
    check_egress(packet, bytes);
  }
  tg_egress_done();
  landed = 0;
}

u32_t world_write(u32_t id, u32_t bytes)
{
  struct host_flow *host = &world.flows[id];
  if (!host->known || !host->opened || host->finished) return 0;
  u32_t pieces = tg_tcp_reserve(id), written = 0;
  if (pieces == 0) return 0;
  for (u32_t piece = 0; piece < pieces; piece++) {
    u32_t part = LWIP_MIN(tg_iovecs[piece].length, bytes - written);
    stream_put(AT(tg_iovecs[piece].offset), host->down + written, part);
    written += part;
  }
  tg_tcp_commit(id, written);
  host->down += written;
  return written;
}

void world_release(u32_t id)
{
  if (!world.flows[id].known) return;
  world.flows[id].known = 0;
  tg_tcp_release(id);
}

/* The payload lies where datagrams land, until the packets are written. */
u32_t world_udp_send(u32_t endpoint, u32_t family, const u8_t *source, u32_t port, u32_t bytes)
{
  if (landed == TG_LANDING_SLOTS) world_flush();
  u8_t *payload = AT(tg_landing_table[landed++].offset);
  for (u32_t index = 0; index < bytes; index++) payload[index] = (u8_t)index;
  return tg_udp_send(endpoint, family, source, port, payload, bytes);
}

/* What the kernel takes back it gives again as zeros. */
void world_trim(void)
{
  for (u32_t count = tg_trim(); count > 0; count = tg_trim())
    for (u32_t row = 0; row < count; row++) {
      UNPOISON(AT(tg_iovecs[row].offset), tg_iovecs[row].length);
      memset(AT(tg_iovecs[row].offset), 0, tg_iovecs[row].length);
    }
}

/* ---- time ---- */

void world_jump(u32_t ms)
{
  now += ms;
  tg_tick((double)now);
  drain();
  if (!world.hold_egress) world_flush();
}

void world_tick(u32_t ms)
{
  for (u32_t passed = 0; passed < ms; passed += TCP_TMR_INTERVAL) world_jump(TCP_TMR_INTERVAL);
}

/* ---- the end ---- */

struct tg_flow *world_flow(const struct client *client)
{
  const struct names *names = &client->names;
  return tg_flow_find(names->client, names->client_port, names->dest, names->dest_port, names->family);
}

static void settle(void)
{
  for (u32_t id = 0; id < FUZZ_FLOWS; id++) {
    if (!world.flows[id].known) continue;
    tg_tcp_abort(id);
    world_release(id);
  }
  world_batch();
  for (u32_t id = 0; id < FUZZ_ENDPOINTS; id++) tg_udp_forget(id);
  u32_t waited = 0;
  for (u32_t busy = 1; busy;) {
    REQUIRE(waited < SETTLE_MS, "timers run on though nothing is left");
    u32_t step = tg_pcbs() > 0 ? TCP_TMR_INTERVAL : 1000; /* reassembly counts seconds */
    waited += step;
    now += step;
    busy = tg_tick((double)now);
    drain();
    world_flush();
  }
  REQUIRE(tg_flows_used() == 0, "a flow is left");
  REQUIRE(tg_pcbs() == 0, "a PCB is left");
  REQUIRE(tg_send_used() == 0, "chunks are left");
  REQUIRE(tg_receive_held() == 0, "bytes of a client are left");
  REQUIRE(tg_endpoints_used() == 0, "an endpoint is left");
  REQUIRE(tg_prepare() == TG_SLOTS, "a slot is left");
  REQUIRE(fuzz_blocks == blocks_at_rest, "memory of lwIP is left");
}

static void send(struct client *client, u8_t flags, u32_t payload)
{
  static u8_t packet[1500];
  struct segment segment = {.sequence = client->sequence, .flags = flags, .window = 65535, .payload = payload,
                            .acknowledgement = flags & TCP_ACK ? client->acknowledgement : 0};
  client->sequence += payload + (flags & (TCP_SYN | TCP_FIN) ? 1 : 0);
  world_put(packet, put_segment(packet, &client->names, &segment), NULL);
  world_batch();
}

/* A new client is served: connection, bytes both ways, an end on both sides, a datagram. */
static void serve(void)
{
  world.auto_accept = world.auto_finish = world.auto_release = 1;
  world.no_up_check = world.hold_egress = 0;
  struct client *client = &world.clients[tg_config.mtu < IP6_MIN_MTU_LENGTH ? 0 : now / 100000 % 2];
  client->names.client_port = 50000;
  client->answered = 0;
  send(client, TCP_SYN, 0);
  REQUIRE(client->answered, "a new SYN is not answered");
  send(client, TCP_ACK, 0);
  struct tg_flow *flow = world_flow(client);
  REQUIRE(flow != NULL && flow->state == TG_OPEN, "a new connection does not open");
  u32_t id = (u32_t)(flow - tg_flows), first = client->acknowledgement;
  send(client, TCP_ACK | TCP_PSH, 100);
  REQUIRE(world.flows[id].up == client->sequence, "a new client's bytes do not arrive");
  REQUIRE(world_write(id, 200) == 200, "there is no room for a new client");
  world_flush();
  REQUIRE(client->acknowledgement == first + 200, "bytes do not reach a new client");
  send(client, TCP_ACK | TCP_FIN, 0);
  send(client, TCP_ACK, 0);
  REQUIRE(!world.flows[id].known, "a new connection does not end");

  static u8_t packet[200];
  double before = tg_counters.udp_in;
  world_put(packet, put_datagram(packet, &client->names, 100, 1), NULL);
  world_batch();
  REQUIRE(tg_counters.udp_in == before + 1, "a new client's datagram does not arrive");
}

void world_end(void)
{
  fuzz_allocations_fail(0, 0);
  world.hold_egress = 0;
  world_batch();
  settle();
  serve();
  settle();
}
