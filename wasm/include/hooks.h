/* Hooks that unpatched lwIP offers and that we take. Implementations: isn.c. */
#ifndef TG_HOOKS_H
#define TG_HOOKS_H

#include "lwip/ip_addr.h"

u32_t tg_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
#define LWIP_HOOK_TCP_ISN tg_isn

#endif
