/*
 * Fragments of whole packets, in any order, overlapping, missing, too many, with headers before and between them. Whatever
 * came, a good large datagram passes afterwards.
 */
#include "fuzz.h"

#include "lwip/ip.h"
#include "lwip/ip6.h"

#define WHOLE_MAX 65535
/* Of loops over bytes that are made up here nothing is to be learned. */
#define UNTRACED __attribute__((no_sanitize("coverage")))

/* Flags of a record's first byte. */
#define IS_V6 1
#define PROTOCOL 6 /* two bits */
#define EVIL 8
#define PREFIXED 16
#define LYING 32
#define ENDS_BATCH 64
#define PASSES_TIME 128

static u8_t whole[40 + WHOLE_MAX + 8], packet[TG_SLOT_BYTES];

/* The packet that `id` names, without its IP header: the same for every fragment of it. Its bytes. */
UNTRACED static u32_t compose(const struct names *names, u32_t protocol, u8_t id)
{
  u32_t bytes = id == 0xff ? 60000 : 8u + 61u * (id & 63) * (id & 7), header = names->family == 6 ? 40 : 20;
  for (u32_t index = 0; index < bytes; index++) whole[header + index] = (u8_t)(index * 7 + id);
  u8_t *transport = whole + header;
  if (protocol == IP_PROTO_UDP) return put_datagram(whole, names, bytes - 8, id) - header;
  if (protocol == IP_PROTO_TCP) {
    struct segment segment = {.sequence = id, .flags = id & 8 ? TCP_SYN : TCP_ACK, .window = 1000, .payload = bytes};
    return put_segment(whole, names, &segment) - header;
  }
  transport[0] = protocol == IP_PROTO_ICMP ? 8 : 128;
  transport[1] = 0;
  put_ip(whole, names, protocol, bytes, 0, 0);
  mend_checksums(whole, header + bytes);
  return bytes;
}

/* `field`: offset and flags as they stand in the header. Bytes of the packet. */
UNTRACED static u32_t put_fragment(const struct names *names, u32_t protocol, u8_t flags, u8_t id, u16_t field,
                                   u32_t length, u32_t bytes)
{
  u32_t header = names->family == 6 ? 40 : 20, prefix = flags & PREFIXED ? 8 : 0;
  u32_t offset = names->family == 6 ? field & 0xfff8 : (field & 0x1fff) * 8u;
  u32_t extra = prefix + (names->family == 6 ? 8 : 0), at = header + extra;
  for (u32_t index = 0; index < length; index++) {
    u8_t byte = offset + index < bytes ? whole[header + offset + index] : (u8_t)index;
    packet[at + index] = flags & EVIL ? (u8_t)~byte : byte;
  }
  if (names->family == 6) {
    put_ip(packet, names, prefix > 0 ? 0 : IP6_NEXTH_FRAGMENT, extra + length, 0, 0);
    u8_t *next = packet + 40;
    if (prefix > 0) {
      memcpy(next, (u8_t[]){IP6_NEXTH_FRAGMENT, 0, 1, 4, 0, 0, 0, 0}, 8);
      next += 8;
    }
    u8_t inner = (u8_t)(flags & LYING ? id : protocol);
    memcpy(next, (u8_t[]){inner, 0, (u8_t)(field >> 8), (u8_t)field, 0, 0, 0, id}, 8);
    return at + length;
  }
  put_ip(packet, names, protocol, extra + length, id, field);
  if (prefix > 0) {
    memset(packet + 20, flags & LYING ? 7 : 1, 8);
    packet[0] = 0x47;
  }
  mend_checksums(packet, at + length);
  return at + length;
}

static void fragment(struct input *in)
{
  u8_t flags = take8(in), id = take8(in);
  u16_t field = take16(in), length = take16(in);
  const struct names *names = &world.clients[flags & IS_V6].names;
  u32_t protocol = (u32_t[]){IP_PROTO_UDP, IP_PROTO_TCP, flags & IS_V6 ? 58 : IP_PROTO_ICMP, IP_PROTO_UDP}[(flags & PROTOCOL) / 2];
  u32_t bytes = compose(names, protocol, id);
  /* mostly a length that a fragment of this packet has */
  u32_t length_now = length & 0x8000 ? length & 0x7fff : length % 1481 & ~7u;
  u32_t offset = flags & IS_V6 ? field & 0xfff8 : (field & 0x1fff) * 8u;
  int more = flags & IS_V6 ? field & 1 : field & 0x2000;
  if (!more && offset < bytes && !(length & 0x8000)) length_now = LWIP_MIN(bytes - offset, 1480);
  world_put(packet, put_fragment(names, protocol, flags, id, field, length_now, bytes), NULL);
  if (flags & ENDS_BATCH) world_batch();
  if (flags & PASSES_TIME) world_tick(id & 1 ? 15000 : 1000);
}

static void good_datagram(const struct names *names)
{
  u32_t bytes = compose(names, IP_PROTO_UDP, 0x1f);
  double before = tg_counters.udp_in;
  for (u32_t at = 0; at < bytes; at += 1400) {
    u32_t part = LWIP_MIN(1400, bytes - at), more = at + part < bytes;
    u16_t field = (u16_t)(names->family == 6 ? at | more : at / 8 | (more ? 0x2000 : 0));
    /* an identification that no fragment of the input has: theirs end with its byte, and begin with zeros */
    u32_t length = put_fragment(names, IP_PROTO_UDP, 0, 0x1f, field, part, bytes);
    packet[names->family == 6 ? 40 + 4 : 4] = 0x77;
    mend_checksums(packet, length);
    world_put(packet, length, NULL);
  }
  world_batch();
  REQUIRE(tg_counters.udp_in == before + 1, "a good datagram in fragments does not arrive");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  struct input in = {bytes, size};
  world_begin(take16(&in) | 64);
  world.no_up_check = 1;
  while (in.left > 0) fragment(&in);
  world_batch();
  for (u32_t id = 0; id < FUZZ_ENDPOINTS; id++) tg_udp_forget(id);
  good_datagram(&world.clients[0].names);
  if (tg_config.mtu >= IP6_MIN_MTU_LENGTH) good_datagram(&world.clients[1].names);
  world_end();
  return 0;
}
