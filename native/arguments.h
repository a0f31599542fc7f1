/* Arguments and results of the module's functions. */
#ifndef TUNGATE_ARGUMENTS_H
#define TUNGATE_ARGUMENTS_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>

#define ARGUMENTS_MAX 4

/** Fills `arguments`, which has room for ARGUMENTS_MAX; those not given are undefined. How many were given. */
size_t arguments_of(napi_env env, napi_callback_info info, napi_value *arguments);

napi_value int_value(napi_env env, int number);

/** Copies a string with its end; false when it is none, holds a NUL, or has no room in `size` bytes. */
bool take_string(napi_env env, napi_value value, char *out, size_t size);

#endif
