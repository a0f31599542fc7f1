#include "environment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

#define WORD_BITS 64

static void close_descriptors(struct environment *environment) {
  for (size_t at = 0; at < environment->descriptor_words; at++) {
    for (uint64_t word = environment->descriptors[at]; word != 0; word &= word - 1)
      close((int)(at * WORD_BITS) + __builtin_ctzll(word));
    environment->descriptors[at] = 0;
  }
}

/** Node-API waits for the removal of the hook, and runs the loop meanwhile, so that close callbacks are called. */
static void end_if_idle(struct environment *environment) {
  if (!environment->ending || environment->handles > 0) return;
  close_descriptors(environment);
  napi_remove_async_cleanup_hook(environment->cleanup);
}

static void on_cleanup(napi_async_cleanup_hook_handle handle, void *data) {
  struct environment *environment = data;
  environment->cleanup = handle;
  environment->ending = true;
  while (environment->ios != NULL) io_close(environment->ios);
  end_if_idle(environment);
}

static void on_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  environment_release(data);
}

struct environment *environment_create(napi_env env) {
  struct environment *environment = calloc(1, sizeof *environment);
  if (environment == NULL) return NULL;
  environment->env = env;
  environment->references = 1;
  if (napi_set_instance_data(env, environment, on_finalize, NULL) != napi_ok) {
    free(environment);
    return NULL;
  }
  return napi_add_async_cleanup_hook(env, on_cleanup, environment, &environment->cleanup) == napi_ok ? environment : NULL;
}

struct environment *environment_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

void environment_retain(struct environment *environment) { environment->references++; }

void environment_release(struct environment *environment) {
  if (--environment->references > 0) return;
  free(environment->descriptors);
  free(environment);
}

void environment_handle_opened(struct environment *environment) { environment->handles++; }

void environment_handle_closed(struct environment *environment) {
  environment->handles--;
  end_if_idle(environment);
}

int environment_own(struct environment *environment, int fd) {
  if (fd < 0) return fd;
  size_t word = (size_t)fd / WORD_BITS;
  if (word >= environment->descriptor_words) {
    size_t words = word + 1 > 2 * environment->descriptor_words ? word + 1 : 2 * environment->descriptor_words;
    uint64_t *grown = realloc(environment->descriptors, words * sizeof *grown);
    if (grown == NULL) {
      close(fd);
      return -ENOMEM;
    }
    memset(grown + environment->descriptor_words, 0, (words - environment->descriptor_words) * sizeof *grown);
    environment->descriptors = grown;
    environment->descriptor_words = words;
  }
  environment->descriptors[word] |= UINT64_C(1) << (fd % WORD_BITS);
  return fd;
}

bool environment_disown(struct environment *environment, int fd) {
  if (fd < 0 || (size_t)fd / WORD_BITS >= environment->descriptor_words) return false;
  uint64_t *word = &environment->descriptors[fd / WORD_BITS];
  uint64_t bit = UINT64_C(1) << (fd % WORD_BITS);
  bool owned = (*word & bit) != 0;
  *word &= ~bit;
  return owned;
}

uint32_t environment_descriptors(const struct environment *environment) {
  uint32_t count = 0;
  for (size_t at = 0; at < environment->descriptor_words; at++)
    count += (uint32_t)__builtin_popcountll(environment->descriptors[at]);
  return count;
}
