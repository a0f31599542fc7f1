/*
 * Landing places for packets from the tun. A packet is never copied on its way to lwIP: a custom pbuf points into the
 * slot, and the slot is free again when the last reference is gone. The host fills only slots of tg_slot_table.
 */
#include "tungate.h"

static u8_t memory[TG_SLOTS][TG_SLOT_BYTES] __attribute__((aligned(16)));
static struct slot {
  struct pbuf_custom custom; /* first: a pbuf is its slot */
  u32_t busy;
} slots[TG_SLOTS];

/* The host's table for the next batch: where to put a packet, and (filled in) how long it is. */
struct tg_iovec tg_slot_table[TG_SLOTS];
static u8_t table_slot[TG_SLOTS];

static void slot_free(struct pbuf *p)
{
  ((struct slot *)p)->busy = 0;
}

/* Prepares the table; how many slots are free. */
TG_EXPORT(tg_prepare) u32_t tg_prepare(void)
{
  u32_t free = 0;
  for (u32_t slot = 0; slot < TG_SLOTS; slot++) {
    if (slots[slot].busy) continue;
    tg_slot_table[free].offset = (u32_t)(uintptr_t)memory[slot];
    table_slot[free++] = (u8_t)slot;
  }
  return free;
}

struct pbuf *tg_slot_pbuf(u32_t row, u32_t skip, u32_t length)
{
  struct slot *slot = &slots[table_slot[row]];
  slot->busy = 1;
  slot->custom.custom_free_function = slot_free;
  u8_t *at = memory[table_slot[row]] + skip;
  return pbuf_alloced_custom(PBUF_RAW, (u16_t)length, PBUF_REF, &slot->custom, at, (u16_t)length);
}

/* All slots, when no packet has come since the last call; how many iovecs that is. */
u32_t tg_slots_unneeded(struct tg_iovec *into)
{
  static double seen, given;
  double now = tg_counters.packets_in;
  int quiet = now == seen && now != given;
  seen = now;
  for (u32_t slot = 0; quiet && slot < TG_SLOTS; slot++)
    if (slots[slot].busy) quiet = 0;
  if (!quiet) return 0;
  given = now;
  *into = (struct tg_iovec){(u32_t)(uintptr_t)memory, sizeof memory};
  return 1;
}

/* virtio_net_hdr flags (linux/virtio_net.h): checksum to be completed, checksum known to be good. */
#define VNET_NEEDS_CSUM 1
#define VNET_DATA_VALID 2
#define VNET_GSO_UDP_L4 5
#define VNET_GSO_ECN 0x80

/* Bytes of each datagram in a super-packet of UDP; 0 for any other packet. */
static u32_t segment_bytes(const u8_t *vnet)
{
  return (vnet[1] & ~VNET_GSO_ECN) == VNET_GSO_UDP_L4 ? (u32_t)(vnet[4] | vnet[5] << 8) : 0;
}

/*
 * Takes packets `from` … `count` of the table, in order. Returns how many of the table are done: fewer than `count`
 * when what waits for the host must be looked at and written first.
 */
TG_EXPORT(tg_ingress) u32_t tg_ingress(u32_t from, u32_t count)
{
  u32_t skip = tg_config.vnet ? TG_VNET_BYTES : 0;
  for (u32_t row = from; row < count; row++) {
    if (tg_egress_almost_full() || tg_datagrams_almost_full()) return row;
    u32_t length = tg_slot_table[row].length;
    TG_COUNT(packets_in);
    if (length <= skip || length - skip > 65535) {
      TG_COUNT(drop_malformed);
      continue;
    }
    tg_counters.bytes_in += length - skip;
    const u8_t *vnet = (const u8_t *)(uintptr_t)tg_slot_table[row].offset;
    tg_guard(tg_slot_pbuf(row, skip, length - skip), skip ? vnet[0] & (VNET_NEEDS_CSUM | VNET_DATA_VALID) : 0,
             skip ? segment_bytes(vnet) : 0);
  }
  return count;
}
