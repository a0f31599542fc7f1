/*
 * Packets as they come: an input is a row of {length, vnet header, packet}, at first of real captures. The host does by
 * itself what a gateway does: it accepts, sends something for what it reads, answers datagrams, ends when the client ends.
 */
#include "fuzz.h"

#include "lwip/ip.h"

#define RECORD_HEAD (2 + TG_VNET_BYTES)
/* The upper bits of a record's length are a time that passes before it. */
#define LENGTH_BITS 11

static u32_t record_bytes(const u8_t *record, size_t left)
{
  u32_t bytes = (u32_t)(record[0] | record[1] << 8) & ((1 << LENGTH_BITS) - 1);
  return (u32_t)LWIP_MIN(bytes, left - RECORD_HEAD);
}

/* A recorded client cannot know what our stack acknowledges and counts from: its numbers are led to ours, its lies stay lies. */
static void lead(u8_t *packet, u32_t bytes)
{
  u32_t family = packet[0] >> 4, header = family == 6 ? 40 : (packet[0] & 15) * 4u;
  if ((family != 4 && family != 6) || header < 20 || bytes < header + 20) return;
  if (packet[family == 6 ? 6 : 9] != IP_PROTO_TCP) return;
  u8_t *tcp = packet + header, client[16] = {0}, dest[16] = {0};
  u32_t address_bytes = family == 6 ? 16 : 4;
  memcpy(client, packet + (family == 6 ? 8 : 12), address_bytes);
  memcpy(dest, packet + (family == 6 ? 24 : 16), address_bytes);
  const struct tg_flow *flow =
    tg_flow_find(client, (u32_t)(tcp[0] << 8 | tcp[1]), dest, (u32_t)(tcp[2] << 8 | tcp[3]), family);
  if (flow == NULL || flow->pcb == NULL) return;
  for (int at = 0; at < 4; at++) tcp[8 + at] = (u8_t)(flow->pcb->snd_nxt >> (24 - 8 * at));
  mend_checksums(packet, bytes);
}

static void answer(void)
{
  for (u32_t id = 0; id < FUZZ_FLOWS; id++)
    if (world.flows[id].known && world.flows[id].opened) world_write(id, 1 + (tg_flows[id].isn & 0xfff));
  for (u32_t id = 0; id < FUZZ_ENDPOINTS; id++)
    if (tg_endpoints[id].used) world_udp_send(id, tg_endpoints[id].family, tg_endpoints[id].address, 53, id * 100);
  world_flush();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  static const u16_t times[] = {0, 0, 0, 0, 40, 250, 1000, 15000};
  static u8_t packet[1 << LENGTH_BITS];
  struct input in = {bytes, size};
  u16_t choice = take16(&in);
  world_begin(choice | 16 | 32 | 64);
  world.no_up_check = 1;
  while (in.left > RECORD_HEAD) {
    u32_t length = record_bytes(in.at, in.left);
    world_tick(times[in.at[1] >> 5]);
    const u8_t *vnet = in.at + 2;
    memcpy(packet, in.at + RECORD_HEAD, length);
    in.at += RECORD_HEAD + length;
    in.left -= RECORD_HEAD + length;
    if (length == 0) continue;
    if (choice & 0x8000) lead(packet, length);
    world_put(packet, length, vnet);
    if (choice & 0x4000) continue; /* large batches */
    world_batch();
    answer();
  }
  world_batch();
  answer();
  world_end();
  return 0;
}

#ifndef __wasm__
/* Every second mutation has right checksums again: else nothing would come past them. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed)
{
  size = LLVMFuzzerMutate(bytes, size, max_size);
  if (seed % 2) return size;
  for (size_t at = 2; at + RECORD_HEAD < size;) {
    u32_t length = record_bytes(bytes + at, size - at);
    mend_checksums(bytes + at + RECORD_HEAD, length);
    at += RECORD_HEAD + length;
  }
  return size;
}
#endif
