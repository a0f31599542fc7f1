/*
 * Operations: an input is read as what clients, the kernel, the upstreams and the clock do, one after the other. Anything
 * may follow anything, so flows are met in every state.
 */
#include "fuzz.h"

#include "lwip/ip.h"

static u8_t packet[65535 + 64], options[40], vnet[TG_VNET_BYTES];
static u32_t option_bytes;
static int batching, has_vnet;

static void put(u32_t bytes)
{
  world_put(packet, bytes, has_vnet ? vnet : NULL);
  has_vnet = 0;
  if (!batching) world_batch();
}

static struct client *client_of(struct input *in)
{
  return &world.clients[take8(in) % FUZZ_CLIENTS];
}

/* A flow that the host knows, or none: FUZZ_FLOWS. */
static u32_t flow_of(struct input *in)
{
  u32_t start = take8(in) % FUZZ_FLOWS;
  for (u32_t step = 0; step < FUZZ_FLOWS; step++)
    if (world.flows[(start + step) % FUZZ_FLOWS].known) return (start + step) % FUZZ_FLOWS;
  return FUZZ_FLOWS;
}

static void segment(struct client *client, u8_t flags, u32_t sequence, u32_t acknowledgement, u32_t payload)
{
  struct segment made = {.sequence = sequence, .acknowledgement = acknowledgement, .flags = flags,
                         .window = client->window, .options = options, .option_bytes = option_bytes,
                         .payload = payload};
  put(put_segment(packet, &client->names, &made));
}

static u32_t payload_of(struct input *in)
{
  u32_t bytes = take16(in);
  return tg_config.vnet && bytes % 4 == 0 ? LWIP_MIN(bytes, 65000) : bytes % 1461;
}

/* SYN with the options of a Linux client, without any, or with whatever the input says; of a new or the last sequence. */
static void knock(struct input *in)
{
  static const u8_t linux_options[] = {2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0};
  struct client *client = client_of(in);
  u8_t how = take8(in);
  struct segment made = {.flags = TCP_SYN, .window = client->window};
  if (how & 1) client->isn = take32(in);
  client->sequence = client->isn + 1;
  made.sequence = client->isn;
  if (how & 2) {
    made.options = linux_options;
    made.option_bytes = sizeof linux_options;
  } else if (how & 4) {
    made.options = options;
    made.option_bytes = option_bytes;
  }
  if (how & 8) made.payload = take8(in);
  if (how & 16) made.flags = take8(in);
  put(put_segment(packet, &client->names, &made));
}

static void data(struct input *in)
{
  struct client *client = client_of(in);
  u32_t bytes = payload_of(in);
  segment(client, TCP_ACK | TCP_PSH, client->sequence, client->acknowledgement, bytes);
  client->sequence += bytes;
}

static void data_ahead(struct input *in)
{
  struct client *client = client_of(in);
  u32_t offset = take16(in);
  segment(client, TCP_ACK, client->sequence + offset, client->acknowledgement, payload_of(in));
}

/* Everything may be wrong: flags, and both numbers by a little, by a window, or by anything. */
static void lie(struct input *in)
{
  struct client *client = client_of(in);
  u8_t flags = take8(in), how = take8(in);
  s32_t sequence = 0, acknowledgement = 0;
  if (how & 1) sequence = how & 2 ? (s32_t)take32(in) : (s16_t)take16(in);
  if (how & 4) acknowledgement = how & 8 ? (s32_t)take32(in) : (s16_t)take16(in);
  u32_t bytes = how & 16 ? payload_of(in) : 0;
  segment(client, flags, client->sequence + (u32_t)sequence, client->acknowledgement + (u32_t)acknowledgement, bytes);
}

static void finish_client(struct input *in)
{
  struct client *client = client_of(in);
  u32_t bytes = take8(in);
  segment(client, TCP_ACK | TCP_FIN, client->sequence, client->acknowledgement, bytes);
  client->sequence += bytes + 1;
}

/* Blocks beyond what was acknowledged, as a client that misses a packet says (RFC 2018). */
static void selective(struct input *in)
{
  struct client *client = client_of(in);
  u32_t from = client->acknowledgement + take16(in), to = from + take16(in);
  u8_t sack[12] = {1, 1, 5, 10};
  for (int at = 0; at < 4; at++) {
    sack[4 + at] = (u8_t)(from >> (24 - 8 * at));
    sack[8 + at] = (u8_t)(to >> (24 - 8 * at));
  }
  struct segment made = {.sequence = client->sequence, .acknowledgement = client->acknowledgement, .flags = TCP_ACK,
                         .window = client->window, .options = sack, .option_bytes = 12};
  for (u32_t count = take8(in) % 5; count > 0; count--) put(put_segment(packet, &client->names, &made));
}

static void raw(struct input *in, int mended)
{
  const u8_t *at;
  u32_t bytes = take(in, &at, take16(in) % 2048);
  if (bytes == 0) return;
  memcpy(packet, at, bytes);
  if (mended) mend_checksums(packet, bytes);
  world.no_up_check = 1;
  put(bytes);
}

static void datagram(struct input *in)
{
  struct names names = client_of(in)->names;
  names.client_port = 5000 + take8(in) % (FUZZ_ENDPOINTS + 4);
  names.dest_port = take8(in);
  u32_t bytes = payload_of(in), gso = tg_config.vnet ? take8(in) : 0;
  if (gso != 0) {
    has_vnet = 1;
    memset(vnet, 0, sizeof vnet);
    vnet[0] = 1;
    vnet[1] = 5;
    vnet[4] = (u8_t)gso;
    vnet[5] = take8(in) % 6;
  }
  put(put_datagram(packet, &names, LWIP_MIN(bytes, 65000), take8(in)));
}

static void host_write(struct input *in)
{
  u32_t id = flow_of(in), bytes = take16(in) * (1 + take8(in) % 8u);
  if (id == FUZZ_FLOWS) return;
  while (bytes > 0) {
    u32_t written = world_write(id, bytes);
    if (written == 0) return;
    bytes -= written;
  }
}

static void host_udp_send(struct input *in)
{
  u32_t id = take8(in) % FUZZ_ENDPOINTS, bytes = take16(in) % 65508;
  if (!tg_endpoints[id].used) return;
  const u8_t *address = world.clients[take8(in) % FUZZ_CLIENTS].names.dest;
  u32_t family = take8(in) % 8 == 0 ? 10 - tg_endpoints[id].family : tg_endpoints[id].family;
  for (u32_t count = 1 + take8(in) % 4; count > 0; count--) world_udp_send(id, family, address, 53, bytes);
}

static void host_udp_refuse(struct input *in)
{
  u32_t id = take8(in) % FUZZ_ENDPOINTS;
  if (!tg_endpoints[id].used) return;
  tg_udp_refuse(id, world.clients[take8(in) % FUZZ_CLIENTS].names.dest, 53, take8(in) % (TG_ANSWER_SILENCE + 1));
}

enum host_call { ACCEPT, REFUSE, READ, LIMIT, FINISH, ABORT, RELEASE };

static void host(struct input *in, enum host_call call)
{
  u32_t id = flow_of(in);
  if (id == FUZZ_FLOWS) return;
  struct host_flow *flow = &world.flows[id];
  switch (call) {
  case ACCEPT:
    if (tg_flows[id].state == TG_HELD) flow->up = tg_flows[id].isn + 1;
    tg_tcp_accept(id);
    break;
  case REFUSE: tg_tcp_refuse(id, take8(in) % (TG_ANSWER_SILENCE + 1)); break;
  case READ: world_read(id, take16(in)); break;
  case LIMIT:
    flow->read_limit = take16(in);
    if (flow->read_limit == 0xffff) flow->read_limit = 0xffffffff;
    break;
  case FINISH:
    flow->finished = 1;
    tg_tcp_finish(id);
    break;
  case ABORT: tg_tcp_abort(id); break;
  case RELEASE: world_release(id); break;
  }
}

static void client_packet(struct input *in, u8_t what)
{
  struct client *client;
  switch (what) {
  case 0: knock(in); break;
  case 1:
    client = client_of(in);
    segment(client, TCP_ACK, client->sequence, client->acknowledgement, 0);
    break;
  case 2: data(in); break;
  case 3: data_ahead(in); break;
  case 4: lie(in); break;
  case 5: finish_client(in); break;
  case 6:
    client = client_of(in);
    segment(client, TCP_RST, client->sequence + (take8(in) & 3), client->acknowledgement, 0);
    break;
  case 7: selective(in); break;
  case 8: datagram(in); break;
  case 9: raw(in, 0); break;
  case 10: raw(in, 1); break;
  default: break;
  }
}

/* What is no packet; the batch that was being made is over. */
static void other(struct input *in, u8_t what)
{
  static const u16_t times[] = {1, 40, 80, 250, 1000, 3000, 15000, 60000};
  world_batch();
  u8_t how;
  switch (what) {
  case 11: case 12: case 13: case 14: case 15: case 16: case 17: host(in, (enum host_call)(what - 11)); break;
  case 18: case 19: host_write(in); break;
  case 20: host_udp_send(in); break;
  case 21: host_udp_refuse(in); break;
  case 22: tg_udp_forget(take8(in) % FUZZ_ENDPOINTS); break;
  case 23: world_tick(times[take8(in) % 8]); break;
  case 24: world_jump(times[take8(in) % 8]); break;
  case 25: world_flush(); break;
  case 26:
    how = take8(in);
    fuzz_allocations_fail(how & 31, 1 + (how >> 5));
    break;
  case 27: world_trim(); break;
  default: break;
  }
}

static void set(struct input *in, u8_t what)
{
  const u8_t *at;
  u32_t count;
  switch (what) {
  case 28:
    count = take16(in); /* first: the corpus was made so */
    client_of(in)->window = (u16_t)count;
    break;
  case 29:
    memset(options, 0, sizeof options);
    option_bytes = take(in, &at, take8(in) % 41);
    memcpy(options, at, option_bytes);
    option_bytes = (option_bytes + 3) & ~3u;
    break;
  case 30:
    memset(vnet, 0, sizeof vnet);
    count = take(in, &at, TG_VNET_BYTES);
    memcpy(vnet, at, count);
    has_vnet = 1;
    break;
  default: batching = !batching; break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  struct input in = {bytes, size};
  option_bytes = 0;
  batching = has_vnet = 0;
  world_begin(take16(&in));
  while (in.left > 0) {
    u8_t what = take8(&in) % 32;
    if (what <= 10) client_packet(&in, what);
    else if (what <= 27) other(&in, what);
    else set(&in, what);
    if (!batching) world_batch();
  }
  world_end();
  return 0;
}

#ifndef __wasm__
/*
 * What chance puts together too seldom: bytes in flight, of which the client acknowledges some while it takes back its window,
 * an end, timers, an acknowledgement of all, and a client that goes on. Each step may be missing, come twice, or be another.
 */
static size_t put_end(u8_t *at, unsigned seed)
{
  static const u16_t windows[] = {0, 1, 512, 1024, 2999, 3000, 65535, 0x8000};
  u8_t client = (u8_t)(seed >> 8), times = (u8_t)(seed >> 16);
  u16_t window = windows[seed >> 20 & 7], acknowledged = (u16_t)-(100 << (seed >> 23 & 7));
  u8_t low = (u8_t)window, high = (u8_t)(window >> 8);
  const u8_t steps[][8] = { /* bytes of input, and these */
    {3, 0, client, 2},                                                  /* it connects, */
    {2, 1, client},
    {5, 18, 0, (u8_t)(seed >> 11), (u8_t)(seed >> 26), 2},              /* the host writes, */
    {4, 28, low, high, client},                                         /* the window is taken back, */
    {6, 4, client, TCP_ACK, 4, (u8_t)acknowledged, acknowledged >> 8},  /* some is acknowledged, */
    {2, 15, 0},                                                         /* the upstream ends, */
    {2, 23, times},                                                     /* time passes, */
    {4, 28, 0xff, 0xff, client},
    {2, 1, client},                                                     /* all is acknowledged, */
    {4, 2, client, 1, 0},                                               /* a byte comes, */
    {2, 23, (u8_t)(times >> 3)},
  };
  size_t bytes = 0;
  for (u32_t step = 0; step < LWIP_ARRAYSIZE(steps); step++) {
    u32_t chance = (seed ^ seed >> 13) * (2 * step + 7) >> 4 & 15;
    for (u32_t copies = chance == 0 ? 0 : chance == 1 ? 2 : 1; copies > 0; copies--) {
      memcpy(at + bytes, steps[step] + 1, steps[step][0]);
      bytes += steps[step][0];
    }
  }
  return bytes;
}

/* Every eighth mutation puts an end in such an order behind what was there. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed)
{
  u8_t end[128];
  if (seed % 8 != 0) return LLVMFuzzerMutate(bytes, size, max_size);
  size_t more = put_end(end, seed / 8);
  if (size + more > max_size) return LLVMFuzzerMutate(bytes, size, max_size);
  memcpy(bytes + size, end, more);
  return size + more;
}
#endif
