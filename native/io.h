/*
 * The class `Io`: one epoll of its own, watched by one uv_poll_t of the environment's loop, and the calls that move
 * bytes between descriptors and the linear memory.
 *
 * The uv handle keeps the loop, and the object, alive until close().
 */
#ifndef TUNGATE_IO_H
#define TUNGATE_IO_H

#include "environment.h"

/** Defines the class. NULL with a pending exception on failure. */
napi_value io_define(napi_env env);

/** Idempotent. The struct itself goes when both JavaScript and libuv have let go of it. */
void io_close(struct io *io);

#endif
