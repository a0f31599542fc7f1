#include "sockets.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "environment.h"
#include "socket_linux.h"
#include "tun_linux.h"

/** (address: Uint8Array, port, mark, device) → what `connect` says. */
static napi_value connect_with(napi_env env, napi_callback_info info, int (*connect)(const struct destination *)) {
  napi_value arguments[ARGUMENTS_MAX];
  char name[TUN_NAME_BYTES];
  napi_typedarray_type type;
  void *bytes;
  struct destination to = {.device = name};
  arguments_of(env, info, arguments);
  if (napi_get_typedarray_info(env, arguments[0], &type, &to.address_bytes, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array || napi_get_value_uint32(env, arguments[1], &to.port) != napi_ok ||
      napi_get_value_uint32(env, arguments[2], &to.mark) != napi_ok)
    return int_value(env, -EINVAL);
  if (!take_string(env, arguments[3], name, sizeof name)) return int_value(env, -ENODEV);
  to.address = bytes;
  return int_value(env, environment_own(environment_of(env), connect(&to)));
}

static napi_value connect_tcp_function(napi_env env, napi_callback_info info) {
  return connect_with(env, info, socket_connect_tcp);
}

static napi_value connect_udp_function(napi_env env, napi_callback_info info) {
  return connect_with(env, info, socket_connect_udp);
}

static napi_value connect_unix_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  char path[256];
  size_t length;
  arguments_of(env, info, arguments);
  if (napi_get_value_string_utf8(env, arguments[0], path, sizeof path, &length) != napi_ok)
    return int_value(env, -EINVAL);
  return int_value(env, environment_own(environment_of(env), socket_connect_unix(path, length)));
}

static napi_value open_udp_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  char device[TUN_NAME_BYTES];
  uint32_t family, mark;
  arguments_of(env, info, arguments);
  if (napi_get_value_uint32(env, arguments[0], &family) != napi_ok ||
      napi_get_value_uint32(env, arguments[1], &mark) != napi_ok)
    return int_value(env, -EINVAL);
  if (!take_string(env, arguments[2], device, sizeof device)) return int_value(env, -ENODEV);
  return int_value(env, environment_own(environment_of(env), socket_open_udp(family, mark, device)));
}

/** Fills `ends`, an Int32Array of two. */
static napi_value socket_pair_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  napi_typedarray_type type;
  size_t length;
  void *ends;
  int fds[2];
  arguments_of(env, info, arguments);
  if (napi_get_typedarray_info(env, arguments[0], &type, &length, &ends, NULL, NULL) != napi_ok ||
      type != napi_int32_array || length != 2)
    return int_value(env, -EINVAL);
  int error = socket_pair(fds);
  if (error < 0) return int_value(env, error);
  struct environment *environment = environment_of(env);
  bool owned = environment_own(environment, fds[0]) >= 0;
  if (environment_own(environment, fds[1]) < 0 || !owned) {
    if (owned && environment_disown(environment, fds[0])) close(fds[0]);
    if (!owned && environment_disown(environment, fds[1])) close(fds[1]);
    return int_value(env, -ENOMEM);
  }
  memcpy(ends, fds, sizeof fds);
  return int_value(env, 0);
}

/** -1, which the kernel answers with EBADF, when the argument is no number. */
static int descriptor_argument(napi_env env, napi_value value) {
  int32_t fd;
  return napi_get_value_int32(env, value, &fd) == napi_ok ? fd : -1;
}

/** (fd, bytes: Uint8Array) → what `move` says. */
static napi_value move_bytes(napi_env env, napi_callback_info info, int (*move)(int, void *, size_t)) {
  napi_value arguments[ARGUMENTS_MAX];
  napi_typedarray_type type;
  size_t length;
  void *bytes;
  arguments_of(env, info, arguments);
  if (napi_get_typedarray_info(env, arguments[1], &type, &length, &bytes, NULL, NULL) != napi_ok ||
      type != napi_uint8_array)
    return int_value(env, -EINVAL);
  return int_value(env, move(descriptor_argument(env, arguments[0]), bytes, length));
}

static napi_value read_bytes_function(napi_env env, napi_callback_info info) {
  return move_bytes(env, info, socket_read_bytes);
}

static napi_value write_bytes_function(napi_env env, napi_callback_info info) {
  return move_bytes(env, info, socket_write_bytes);
}

static napi_value local_endpoint_function(napi_env env, napi_callback_info info) {
  return move_bytes(env, info, socket_local_endpoint);
}

static napi_value socket_error_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  arguments_of(env, info, arguments);
  return int_value(env, socket_error(descriptor_argument(env, arguments[0])));
}

static napi_value shutdown_write_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  arguments_of(env, info, arguments);
  return int_value(env, socket_shutdown_write(descriptor_argument(env, arguments[0])));
}

/** A second close of a number does nothing: by then it may be another's. */
static napi_value close_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  bool reset = false;
  arguments_of(env, info, arguments);
  int fd = descriptor_argument(env, arguments[0]);
  napi_get_value_bool(env, arguments[1], &reset);
  if (!environment_disown(environment_of(env), fd)) return NULL;
  if (reset) socket_reset_on_close(fd);
  close(fd);
  return NULL;
}

void sockets_define(napi_env env, napi_value exports) {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"connectTcp", connect_tcp_function},
      {"connectUnix", connect_unix_function},
      {"connectUdp", connect_udp_function},
      {"openUdp", open_udp_function},
      {"socketPair", socket_pair_function},
      {"readBytes", read_bytes_function},
      {"writeBytes", write_bytes_function},
      {"localEndpoint", local_endpoint_function},
      {"socketError", socket_error_function},
      {"shutdownWrite", shutdown_write_function},
      {"close", close_function},
  };
  for (size_t at = 0; at < sizeof functions / sizeof *functions; at++) {
    napi_value function = NULL;
    napi_create_function(env, functions[at].name, NAPI_AUTO_LENGTH, functions[at].function, NULL, &function);
    napi_set_named_property(env, exports, functions[at].name, function);
  }
}
