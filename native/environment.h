/*
 * What one environment (the main thread, or one worker) holds: its open descriptors and its `Io` objects. Nothing is
 * shared between environments. At the environment's end all of it is closed, in the order handles, descriptors.
 */
#ifndef TUNGATE_ENVIRONMENT_H
#define TUNGATE_ENVIRONMENT_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

struct environment {
  napi_env env;
  napi_async_cleanup_hook_handle cleanup;
  /** Who may still touch this: Node-API's instance data, and each `Io`. */
  unsigned references;
  /** uv handles not closed to the end yet. */
  unsigned handles;
  bool ending;
  /** Head of the list of open Ios. */
  struct io *ios;
  /** Bitmap of open descriptors: bit `fd % 64` of word `fd / 64`. */
  uint64_t *descriptors;
  size_t descriptor_words;
};

/** Makes the state and hands it to Node-API. NULL when the memory is out. */
struct environment *environment_create(napi_env env);
struct environment *environment_of(napi_env env);
void environment_retain(struct environment *environment);
void environment_release(struct environment *environment);

/** A uv handle was opened, or has called its close callback. */
void environment_handle_opened(struct environment *environment);
void environment_handle_closed(struct environment *environment);

/** Takes ownership of `fd`, and returns it; a negative errno passes through. On -ENOMEM `fd` is closed. */
int environment_own(struct environment *environment, int fd);
/** Lets go of `fd` without closing it; false when it is not one of ours (any more). */
bool environment_disown(struct environment *environment, int fd);
uint32_t environment_descriptors(const struct environment *environment);

#endif
