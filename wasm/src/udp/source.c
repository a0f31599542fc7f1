/*
 * Whose name a datagram from an upstream may bear. One that says it comes from loopback, or from the client or the gateway
 * itself, would pass for a neighbour's; groups and broadcast send nothing (RFC 1122 3.2.1.3, RFC 4291 2.7).
 */
#include "tungate.h"

#define OWN_MAX 8

static struct {
  u32_t family;
  u8_t address[16];
} own[OWN_MAX];
static u32_t own_count;

/* An address of the device. More than OWN_MAX are forgotten. */
TG_EXPORT(tg_own_address)
void tg_own_address(u32_t family, const u8_t *address)
{
  if (own_count == OWN_MAX) return;
  own[own_count].family = family;
  memcpy(own[own_count++].address, address, family == 6 ? 16 : 4);
}

/* The last that passed: the next is mostly the same. Zeros never do. */
static struct {
  u32_t source, client;
} passed;

static int forged4(const u8_t *source, const u8_t *client)
{
  u32_t address, other;
  memcpy(&address, source, 4);
  memcpy(&other, client, 4);
  if (address == passed.source && other == passed.client) return 0;
  if (source[0] == 0 || source[0] == 127 || source[0] >= 224 || address == other) return 1;
  for (u32_t at = 0; at < own_count; at++)
    if (own[at].family == 4 && memcmp(source, own[at].address, 4) == 0) return 1;
  passed.source = address;
  passed.client = other;
  return 0;
}

static int forged6(const u8_t *source, const u8_t *client)
{
  static const u8_t zeros[15];
  if (source[0] == 0xff || memcmp(source, client, 16) == 0) return 1;
  if (memcmp(source, zeros, 15) == 0 && source[15] <= 1) return 1; /* :: and ::1 */
  if (memcmp(source, zeros, 10) == 0 && source[10] == 0xff && source[11] == 0xff) return 1; /* ::ffff:0:0/96 */
  for (u32_t at = 0; at < own_count; at++)
    if (own[at].family == 6 && memcmp(source, own[at].address, 16) == 0) return 1;
  return 0;
}

int tg_source_forged(u32_t family, const u8_t *source, const u8_t *client)
{
  return family == 6 ? forged6(source, client) : forged4(source, client);
}
