/* What leaves the stack is taken apart: lengths, checksums, the promises of the vnet header, and each byte of a stream. */
#include "fuzz.h"

#include "lwip/ip.h"

#define VNET_NEEDS_CSUM 1
#define VNET_GSO_UDP_L4 5

static u32_t get16(const u8_t *at)
{
  return (u32_t)(at[0] << 8 | at[1]);
}

static u32_t get32(const u8_t *at)
{
  return get16(at) << 16 | get16(at + 2);
}

static void check_sums(const u8_t *packet, u32_t bytes)
{
  static u8_t copy[65535];
  memcpy(copy, packet, bytes);
  mend_checksums(copy, bytes);
  REQUIRE(memcmp(copy, packet, bytes) == 0, "a checksum of a packet that leaves is wrong");
}

/* The kernel sums from csum_start on, where the pseudo-header's sum stands already (linux/virtio_net.h). */
static void check_partial(const u8_t *vnet, const u8_t *packet, u32_t header, u32_t protocol, u32_t bytes)
{
  u32_t start = (u32_t)(vnet[6] | vnet[7] << 8), offset = (u32_t)(vnet[8] | vnet[9] << 8);
  u32_t address_bytes = header == 40 ? 32 : 8;
  REQUIRE(protocol == IP_PROTO_TCP || protocol == IP_PROTO_UDP, "a partial checksum of a protocol that has none");
  REQUIRE(start == header && offset == (protocol == IP_PROTO_TCP ? 16 : 6), "csum_start or csum_offset");
  REQUIRE(start + offset + 2 <= bytes, "the checksum is beyond the packet");
  u16_t found;
  memcpy(&found, packet + start + offset, 2);
  REQUIRE(found == tg_pseudo_sum(packet + header - address_bytes, address_bytes, protocol, bytes - header),
          "the pseudo-header's sum is wrong");
}

static void check_size(const u8_t *vnet, u32_t bytes)
{
  u32_t kind = vnet != NULL ? vnet[1] : 0;
  if (kind == 0) {
    REQUIRE(bytes <= tg_config.mtu, "a packet larger than the MTU");
    return;
  }
  u32_t header = (u32_t)(vnet[2] | vnet[3] << 8), size = (u32_t)(vnet[4] | vnet[5] << 8);
  REQUIRE(vnet[0] & VNET_NEEDS_CSUM, "a super-packet whose checksums nobody completes");
  REQUIRE(header < bytes && size > 0 && header + size <= tg_config.mtu, "gso_size or hdr_len");
  REQUIRE(kind != VNET_GSO_UDP_L4 || tg_config.uso, "a super-packet that the device does not take");
  REQUIRE((bytes - header + size - 1) / size <= 65535 / 48, "more segments than a packet can be cut into");
}

/* A client learns what is next, as a real one does. */
static void tell_client(const u8_t *packet, u32_t header, const u8_t *tcp, u32_t payload)
{
  struct names names = {.family = header == 40 ? 6 : 4, .client_port = get16(tcp + 2), .dest_port = get16(tcp)};
  u32_t address_bytes = header == 40 ? 16 : 4;
  memcpy(names.client, packet + header - address_bytes, address_bytes);
  memcpy(names.dest, packet + header - 2 * address_bytes, address_bytes);
  for (u32_t at = 0; at < FUZZ_CLIENTS; at++) {
    struct client *client = &world.clients[at];
    if (memcmp(&client->names, &names, sizeof names) != 0) continue;
    u32_t sequence = get32(tcp + 4);
    u8_t flags = tcp[13];
    if (flags & TCP_RST) client->answered = 0;
    else if (flags & TCP_SYN) {
      client->acknowledgement = sequence + 1;
      client->answered = 1;
    } else if (client->answered && sequence == client->acknowledgement)
      client->acknowledgement += payload + (flags & TCP_FIN ? 1 : 0);
  }
}

static void check_segment(const u8_t *packet, u32_t header, u32_t bytes)
{
  const u8_t *tcp = packet + header;
  REQUIRE(bytes - header >= 20, "a segment without a header");
  u32_t data = (tcp[12] >> 4) * 4u;
  REQUIRE(data >= 20 && header + data <= bytes, "the data offset of a segment that leaves");
  u32_t payload = bytes - header - data, sequence = get32(tcp + 4);
  REQUIRE(stream_is(tcp + data, sequence, payload), "a byte for the client is not the one that was written");
  tell_client(packet, header, tcp, payload);
}

void check_egress(const u8_t *raw, u32_t bytes)
{
  const u8_t *vnet = tg_config.vnet ? raw : NULL, *packet = raw + (vnet != NULL ? TG_VNET_BYTES : 0);
  bytes -= (u32_t)(packet - raw);
  REQUIRE(bytes >= 20, "a packet without a header");
  u32_t family = packet[0] >> 4, header = family == 6 ? 40 : (packet[0] & 15) * 4u;
  REQUIRE(family == 4 || family == 6, "a packet of no IP version");
  REQUIRE(header >= 20 && header <= bytes, "the header of a packet that leaves");
  REQUIRE(bytes == (family == 6 ? 40 + get16(packet + 4) : get16(packet + 2)), "a packet's length field");
  check_size(vnet, bytes);
  u32_t protocol = packet[family == 6 ? 6 : 9];
  REQUIRE(family == 6 || header == 20 || protocol == IP_PROTO_ICMP, "IP options on what is no answer to an echo request");
  int partial = vnet != NULL && (vnet[0] & VNET_NEEDS_CSUM);
  if (partial) check_partial(vnet, packet, header, protocol, bytes);
  else check_sums(packet, bytes);
  int fragment = family == 6 ? protocol == IP6_NEXTH_FRAGMENT : (get16(packet + 6) & 0x3fff) != 0;
  if (protocol == IP_PROTO_TCP && !fragment) check_segment(packet, header, bytes);
}
