/* lwIP's view of the compiler and of the "platform": a WebAssembly module that calls nobody. */
#ifndef TG_ARCH_CC_H
#define TG_ARCH_CC_H

#include <stdint.h>
#include <stdlib.h>

#define BYTE_ORDER LITTLE_ENDIAN
#define LWIP_NO_CTYPE_H 1
#define LWIP_NO_STDDEF_H 0

/* An assert that fails ends this instance, never the process: the message stays in memory, the host reads it. */
_Noreturn void tg_trap(const char *message);
#define LWIP_PLATFORM_ASSERT(message) tg_trap(message)
#define LWIP_PLATFORM_DIAG(x) do { } while (0)

uint32_t tg_random(void);
#define LWIP_RAND() tg_random()

#endif
