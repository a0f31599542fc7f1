/* One stack instance: its configuration, its clock, its only network interface, and its way to die. */
#include "tungate.h"

#include <stdlib.h>

#include "lwip/init.h"

struct netif tg_netif;
struct tg_config tg_config;
struct tg_counters tg_counters;
u64_t tg_now_ms, tg_now_us;

/* Why the last trap happened: the host reads it after the RuntimeError. */
const char *tg_trap_message;

_Noreturn void tg_trap(const char *message)
{
  tg_trap_message = message;
  __builtin_trap();
}

TG_EXPORT(tg_trap_reason) const char *tg_trap_reason(void)
{
  return tg_trap_message;
}

u32_t sys_now(void)
{
  return (u32_t)tg_now_ms;
}

/* xorshift64*: IP identifications and the like; what must be unpredictable is hashed with a key (isn.c). */
static u64_t random_state = 0x9e3779b97f4a7c15ull;

uint32_t tg_random(void)
{
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (u32_t)((random_state * 0x2545f4914f6cdd1dull) >> 32);
}

static err_t netif_up_init(struct netif *netif)
{
  netif->name[0] = 't';
  netif->name[1] = 'g';
  netif->output = tg_egress4;
  netif->output_ip6 = tg_egress6;
  netif->flags = NETIF_FLAG_UP | NETIF_FLAG_LINK_UP;
  return ERR_OK;
}

void tg_isn_key(const u8_t key[16]);
void tg_hash_keys(const u8_t from[40]);

static u8_t seed[TG_SEED_BYTES];

/* Where the host puts random bytes before tg_init. */
TG_EXPORT(tg_seed) u8_t *tg_seed(void)
{
  return seed;
}

TG_EXPORT(tg_init)
void tg_init(u32_t mtu, u32_t vnet, u32_t uso, u32_t echo, u32_t max_flows, u32_t max_endpoints, u32_t keep_alive_ms)
{
  tg_config = (struct tg_config){mtu, vnet, uso, echo, max_flows, max_endpoints, keep_alive_ms};
  memcpy(&random_state, seed + 16, 8);
  random_state |= 1;
  tg_isn_key(seed);
  tg_hash_keys(seed + 24);

  lwip_init();
  ip4_addr_t address, mask, gateway;
  IP4_ADDR(&address, 192, 0, 2, 1); /* a placeholder: rewritten per packet where lwIP asks for it */
  IP4_ADDR(&mask, 255, 255, 255, 255);
  IP4_ADDR(&gateway, 0, 0, 0, 0);
  netif_add(&tg_netif, &address, &mask, &gateway, NULL, netif_up_init, NULL);
  netif_set_default(&tg_netif);
  netif_ip6_addr_set_state(&tg_netif, 0, IP6_ADDR_PREFERRED);
  u16_t sums = NETIF_CHECKSUM_ENABLE_ALL;
  /* With vnet_hdr the kernel completes TCP's checksums; UDP of lwIP's is fragments, which need the whole sum. */
  if (vnet) sums = (u16_t)(sums & ~NETIF_CHECKSUM_GEN_TCP);
  NETIF_SET_CHECKSUM_CTRL(&tg_netif, sums);
  tg_mtu_super();
  tg_slots_init();
  tg_tcp_init();
  tg_udp_init();
}

void tg_mtu_device(void)
{
  tg_netif.mtu = (u16_t)tg_config.mtu;
}

void tg_mtu_super(void)
{
  tg_netif.mtu = (u16_t)(tg_config.vnet ? 65535 : tg_config.mtu);
}

static u64_t fast_due, ticked_us;

static void set_now(double now_ms)
{
  tg_now_ms = (u64_t)now_ms;
  tg_now_us = (u64_t)(now_ms * 1000);
}

/* A host that stood still has not read what has come meanwhile: what seems overdue waits for the next call. */
#define STALL_US 400000

static int stood_still(void)
{
  u64_t passed = tg_now_us - ticked_us;
  ticked_us = tg_now_us;
  return passed >= STALL_US;
}

/* Called between ticks, while tg_reorder_timers is not 0. */
TG_EXPORT(tg_hurry) void tg_hurry(double now_ms)
{
  set_now(now_ms);
  if (!stood_still()) tg_recovery_hurry();
}

/* Runs the timers that are due. Returns 0 when nothing needs them any more, so that an idle host sleeps. */
TG_EXPORT(tg_tick) u32_t tg_tick(double now_ms)
{
  set_now(now_ms);
  if (tg_now_ms >= fast_due) {
    fast_due = tg_now_ms + TCP_TMR_INTERVAL;
    if (!stood_still()) tg_pcbs_senders();
    tg_pcbs_timers();
    tg_send_tick();
  }
  tg_fragments_tick();
  return tg_pcbs_busy() || tg_fragments_busy();
}

TG_EXPORT(tg_set_now) void tg_set_now(double now_ms)
{
  set_now(now_ms);
}

extern u8_t __heap_base;

/* Bytes of malloc's memory. */
TG_EXPORT(tg_memory_size) u32_t tg_memory_size(void)
{
  return (u32_t)__builtin_wasm_memory_size(0) * 65536 - (u32_t)(uintptr_t)&__heap_base;
}

/*
 * Of these, what cannot be had in one piece, to a sixteenth: what is used, and what lies scattered between. Four mallocs,
 * volatile because the compiler would leave out those that are only freed.
 */
TG_EXPORT(tg_memory_used) u32_t tg_memory_used(void)
{
  u32_t size = tg_memory_size(), grain = size / 16, free_grains = 0;
  for (u32_t step = 8; step > 0; step /= 2) {
    void *volatile piece = malloc((free_grains + step) * grain);
    if (piece == NULL) continue;
    free_grains += step;
    free(piece);
  }
  return size - (free_grains + 1) * grain;
}

void tg_put_address(u8_t *to, const ip_addr_t *from)
{
  if (IP_IS_V6(from)) memcpy(to, ip_2_ip6(from)->addr, 16);
  else {
    memset(to, 0, 16);
    memcpy(to, &ip_2_ip4(from)->addr, 4);
  }
}

void tg_ip_addr(ip_addr_t *to, const u8_t *from, u32_t family)
{
  ip_addr_set_zero(to);
  if (family == 6) {
    memcpy(ip_2_ip6(to)->addr, from, 16);
    IP_SET_TYPE(to, IPADDR_TYPE_V6);
  } else {
    memcpy(&ip_2_ip4(to)->addr, from, 4);
    IP_SET_TYPE(to, IPADDR_TYPE_V4);
  }
}
