/* Packets from fields, and checksums made right afterwards. */
#include "fuzz.h"

#include "lwip/ip.h"
#include "lwip/udp.h"

/* A prime: bytes at the wrong place are not the right ones by chance, whatever round number they are off by. */
#define PERIOD 65521

/* The stream's bytes from `sequence` on, and for how many the period goes on: in one piece they are quick to copy and compare. */
static const u8_t *stream(u32_t sequence, u32_t *bytes)
{
  static u8_t period[PERIOD];
  if (period[0] == 0)
    for (u32_t at = 0; at < PERIOD; at++) period[at] = (u8_t)(((at + 1) * 2654435761u) >> 24);
  u32_t at = sequence % PERIOD, to_zero = 0u - sequence; /* the sequence wraps, and the period begins anew */
  *bytes = LWIP_MIN(*bytes, PERIOD - at);
  if (to_zero != 0) *bytes = LWIP_MIN(*bytes, to_zero);
  return period + at;
}

void stream_put(u8_t *at, u32_t sequence, u32_t bytes)
{
  for (u32_t part; bytes > 0; at += part, sequence += part, bytes -= part) {
    part = bytes;
    const u8_t *from = stream(sequence, &part);
    memcpy(at, from, part);
  }
}

int stream_is(const u8_t *at, u32_t sequence, u32_t bytes)
{
  for (u32_t part; bytes > 0; at += part, sequence += part, bytes -= part) {
    part = bytes;
    const u8_t *from = stream(sequence, &part);
    if (memcmp(at, from, part) != 0) return 0;
  }
  return 1;
}

static void put16(u8_t *at, u32_t value)
{
  at[0] = (u8_t)(value >> 8);
  at[1] = (u8_t)value;
}

static void put32(u8_t *at, u32_t value)
{
  put16(at, value >> 16);
  put16(at + 2, value);
}

static u32_t sum(const u8_t *at, u32_t bytes, u32_t start)
{
  u32_t sum = start;
  for (u32_t index = 0; index + 1 < bytes; index += 2) sum += (u32_t)(at[index] << 8 | at[index + 1]);
  if (bytes % 2) sum += (u32_t)at[bytes - 1] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

u32_t put_ip(u8_t *at, const struct names *names, u32_t protocol, u32_t payload, u16_t id, u16_t fragment)
{
  if (names->family == 6) {
    memset(at, 0, 40);
    at[0] = 0x60;
    put16(at + 4, payload);
    at[6] = (u8_t)protocol;
    at[7] = 64;
    memcpy(at + 8, names->client, 16);
    memcpy(at + 24, names->dest, 16);
    return 40;
  }
  memset(at, 0, 20);
  at[0] = 0x45;
  put16(at + 2, 20 + payload);
  put16(at + 4, id);
  put16(at + 6, fragment);
  at[8] = 64;
  at[9] = (u8_t)protocol;
  memcpy(at + 12, names->client, 4);
  memcpy(at + 16, names->dest, 4);
  put16(at + 10, ~sum(at, 20, 0));
  return 20;
}

static u32_t header_bytes(const struct names *names)
{
  return names->family == 6 ? 40 : 20;
}

u32_t put_segment(u8_t *at, const struct names *names, const struct segment *segment)
{
  u8_t *tcp = at + header_bytes(names);
  memset(tcp, 0, 20);
  put16(tcp, names->client_port);
  put16(tcp + 2, names->dest_port);
  put32(tcp + 4, segment->sequence);
  put32(tcp + 8, segment->acknowledgement);
  tcp[12] = (u8_t)((5 + segment->option_bytes / 4) << 4);
  tcp[13] = segment->flags;
  put16(tcp + 14, segment->window);
  put16(tcp + 18, segment->urgent);
  if (segment->option_bytes > 0) memcpy(tcp + 20, segment->options, segment->option_bytes);
  stream_put(tcp + 20 + segment->option_bytes, segment->sequence + (segment->flags & TCP_SYN ? 1 : 0), segment->payload);
  u32_t transport = 20 + segment->option_bytes + segment->payload;
  u32_t total = put_ip(at, names, IP_PROTO_TCP, transport, 0, 0) + transport;
  mend_checksums(at, total);
  return total;
}

u32_t put_datagram(u8_t *at, const struct names *names, u32_t payload, u8_t first)
{
  u8_t *udp = at + header_bytes(names);
  put16(udp, names->client_port);
  put16(udp + 2, names->dest_port);
  put16(udp + 4, 8 + payload);
  put16(udp + 6, 0);
  for (u32_t index = 0; index < payload; index++) udp[8 + index] = (u8_t)(first + index);
  u32_t total = put_ip(at, names, IP_PROTO_UDP, 8 + payload, 0, 0) + 8 + payload;
  mend_checksums(at, total);
  return total;
}

static void mend_transport(u8_t *addresses, u32_t address_bytes, u32_t protocol, u8_t *at, u32_t bytes)
{
  u32_t where = protocol == IP_PROTO_TCP ? 16 : protocol == IP_PROTO_UDP ? 6 : 2;
  u32_t needed = protocol == IP_PROTO_TCP ? 20 : 8;
  if (protocol != IP_PROTO_TCP && protocol != IP_PROTO_UDP && protocol != IP_PROTO_ICMP && protocol != 58) return;
  if (bytes < needed) return;
  /* a datagram may be followed by bytes that are not its own */
  u32_t own = protocol == IP_PROTO_UDP ? (u32_t)(at[4] << 8 | at[5]) : bytes;
  if (own < needed || own > bytes) own = bytes;
  put16(at + where, 0);
  u32_t pseudo = protocol == IP_PROTO_ICMP ? 0 : sum(addresses, address_bytes, 0) + protocol + (own >> 16) + (own & 0xffff);
  u32_t value = ~sum(at, own, pseudo) & 0xffff;
  put16(at + where, value == 0 && protocol == IP_PROTO_UDP ? 0xffff : value);
}

static void mend4(u8_t *packet, u32_t bytes)
{
  u32_t header = (packet[0] & 15) * 4u, total = (u32_t)(packet[2] << 8 | packet[3]);
  if (header < 20 || header > bytes) return;
  put16(packet + 10, 0);
  put16(packet + 10, ~sum(packet, header, 0));
  if (total < header || total > bytes || (packet[6] & 0x3f) != 0 || packet[7] != 0) return;
  mend_transport(packet + 12, 8, packet[9], packet + header, total - header);
}

static void mend6(u8_t *packet, u32_t bytes)
{
  u32_t total = 40 + (u32_t)(packet[4] << 8 | packet[5]), next = packet[6], at = 40;
  if (total > bytes) return;
  while ((next == 0 || next == 60 || next == 43) && at + 8 <= total) {
    next = packet[at];
    at += 8 + 8u * packet[at + 1];
  }
  if (at < total) mend_transport(packet + 8, 32, next, packet + at, total - at);
}

void mend_checksums(u8_t *packet, u32_t bytes)
{
  if (bytes >= 20 && packet[0] >> 4 == 4) mend4(packet, bytes);
  else if (bytes >= 40 && packet[0] >> 4 == 6) mend6(packet, bytes);
}
