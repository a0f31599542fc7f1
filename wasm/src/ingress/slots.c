/*
 * Landing places for packets from the tun. A packet is never copied on its way to lwIP: a custom pbuf points into the
 * slot, and the slot is free again when the last reference is gone. The host fills only slots of tg_slot_table.
 */
#include "tungate.h"

static u8_t memory[TG_SLOTS][TG_SLOT_BYTES] __attribute__((aligned(16)));
static struct pbuf_custom slots[TG_SLOTS];

/*
 * The host's table for the next batch: where to put a packet, and (filled in) how long it is. Its rows are the free slots,
 * the one freed last first: its bytes are in the caches.
 */
struct tg_iovec tg_slot_table[TG_SLOTS];
static u8_t row_slot[TG_SLOTS];
static u8_t free_slots[TG_SLOTS]; /* a stack */
static u32_t height;
static u32_t shown; /* height that the table shows */
static u32_t low;   /* the lowest since then */
u32_t tg_packets_waited;

void tg_slots_init(void)
{
  for (u32_t slot = 0; slot < TG_SLOTS; slot++) free_slots[height++] = (u8_t)(TG_SLOTS - 1 - slot);
}

static void push(u32_t slot)
{
  free_slots[height++] = (u8_t)slot;
}

static void slot_free(struct pbuf *p)
{
  push((u32_t)((struct pbuf_custom *)p - slots));
}

/* Prepares the table; how many slots are free. Rows whose slot has not moved are left as they are. */
TG_EXPORT(tg_prepare) u32_t tg_prepare(void)
{
  u32_t changed = shown == height ? height - low : height;
  for (u32_t row = 0; row < changed; row++) {
    row_slot[row] = free_slots[height - 1 - row];
    tg_slot_table[row].offset = (u32_t)(uintptr_t)memory[row_slot[row]];
  }
  shown = low = height;
  return height;
}

static struct pbuf *slot_pbuf(u32_t row, u32_t skip, u32_t length)
{
  struct pbuf_custom *slot = &slots[row_slot[row]];
  slot->custom_free_function = slot_free;
  return pbuf_alloced_custom(PBUF_RAW, (u16_t)length, PBUF_REF, slot, memory[row_slot[row]] + skip, (u16_t)length);
}

/* All slots, when no packet has come since the last call; how many iovecs that is. */
u32_t tg_slots_unneeded(struct tg_iovec *into)
{
  static struct tg_rest rest;
  if (!tg_rests(&rest, tg_counters.packets_in, height == TG_SLOTS)) return 0;
  *into = (struct tg_iovec){(u32_t)(uintptr_t)memory, sizeof memory};
  return 1;
}

#define LIES 0xffffffffu

/* Only what was asked of the kernel (TUNSETOFFLOAD): TCP of both families and UDP_L4. */
static __attribute__((noinline)) u32_t super_packet(const struct tg_vnet *vnet, u32_t length)
{
  const u8_t *packet = (const u8_t *)vnet + TG_VNET_BYTES;
  if (vnet->gso_size == 0 || vnet->hdr_len > length) return LIES;
  switch (vnet->gso_type & ~TG_VNET_GSO_ECN) {
  case TG_VNET_GSO_TCPV4: return packet[0] >> 4 == 4 ? 0 : LIES;
  case TG_VNET_GSO_TCPV6: return packet[0] >> 4 == 6 ? 0 : LIES;
  case TG_VNET_GSO_UDP_L4: return vnet->gso_size;
  default: return LIES;
  }
}

/*
 * Bytes of each datagram in a super-packet of UDP, 0 for any other packet; LIES when the header says what cannot be
 * (compare virtio_net_hdr_to_skb() in linux/virtio_net.h). `length` is that of the packet.
 */
static inline u32_t read_vnet(const struct tg_vnet *vnet, u32_t length)
{
  if ((vnet->flags & TG_VNET_NEEDS_CSUM) && vnet->csum_start + vnet->csum_offset + 2u > length) return LIES;
  return vnet->gso_type == 0 ? 0 : super_packet(vnet, length);
}

static __attribute__((noinline)) void refuse(u32_t row, double *counter)
{
  *counter += 1;
  push(row_slot[row]);
}

/*
 * Takes packets `from` … `count` of the table, in order, from 0 on. Returns how many of the table are done: fewer than `count`
 * when what waits for the host must be looked at and written first.
 */
TG_EXPORT(tg_ingress) u32_t tg_ingress(u32_t from, u32_t count)
{
  u32_t skip = tg_config.vnet ? TG_VNET_BYTES : 0;
  if (from == 0) {
    tg_packets_waited = count == shown ? tg_packets_waited + count : 0;
    height -= count;
    low = LWIP_MIN(low, height);
  }
  for (u32_t row = from; row < count; row++) {
    if (tg_egress_almost_full() || tg_datagrams_almost_full()) return row;
    u32_t length = tg_slot_table[row].length;
    TG_COUNT(packets_in);
    if (length <= skip || length - skip > 65535) {
      refuse(row, &tg_counters.drop_malformed);
      continue;
    }
    tg_counters.bytes_in += length - skip;
    u32_t vouched = 0, segment = 0;
    if (skip) {
      const struct tg_vnet *vnet = (const struct tg_vnet *)(uintptr_t)tg_slot_table[row].offset;
      vouched = vnet->flags & (TG_VNET_NEEDS_CSUM | TG_VNET_DATA_VALID);
      if ((segment = read_vnet(vnet, length - skip)) == LIES) {
        refuse(row, &tg_counters.drop_vnet);
        continue;
      }
    }
    tg_guard(slot_pbuf(row, skip, length - skip), (int)vouched, segment);
  }
  return count;
}
