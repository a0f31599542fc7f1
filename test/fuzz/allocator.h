/* In front of every source of lwIP and of the glue when they are built for fuzzing: what they allocate is counted, and fails on order. */
#ifndef TG_FUZZ_ALLOCATOR_H
#define TG_FUZZ_ALLOCATOR_H

#include <stdlib.h>

void *fuzz_malloc(size_t bytes);
void *fuzz_calloc(size_t count, size_t bytes);
void fuzz_free(void *block);

#define malloc(bytes) fuzz_malloc(bytes)
#define calloc(count, bytes) fuzz_calloc(count, bytes)
#define free(block) fuzz_free(block)

#endif
