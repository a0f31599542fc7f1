/* The sockets of src/io/addon.ts, translated to socket_linux.c and back. */
#ifndef TUNGATE_SOCKETS_H
#define TUNGATE_SOCKETS_H

#include <node_api.h>

void sockets_define(napi_env env, napi_value exports);

#endif
