/* Token buckets: what is answered without being asked for by a flow has a rate (RFC 4443 2.4 (f), RFC 1812 4.3.2.8). */
#include "tungate.h"

int tg_rate_allows(struct tg_rate *rate, u32_t per_second)
{
  u64_t elapsed = tg_now_ms - rate->since_ms;
  if (elapsed > 1000) elapsed = 1000;
  u32_t earned = (u32_t)elapsed * per_second / 1000;
  if (earned > 0) {
    rate->left = LWIP_MIN(rate->left + earned, per_second);
    rate->since_ms = tg_now_ms;
  }
  if (rate->left == 0) return 0;
  rate->left--;
  return 1;
}
