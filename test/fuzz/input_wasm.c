/* How the tests that play inputs to the WebAssembly build hand one over (replay.test.ts). */
#include "fuzz.h"

static u8_t buffer[1 << 20];

TG_EXPORT(fuzz_buffer) u8_t *fuzz_buffer(void)
{
  return buffer;
}

TG_EXPORT(fuzz_run) void fuzz_run(u32_t bytes)
{
  LLVMFuzzerTestOneInput(buffer, LWIP_MIN(bytes, sizeof buffer));
}
