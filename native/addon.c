/*
 * The module: what src/io/addon.ts declares, translated to the files that know the kernel (*_linux.c) and back.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "environment.h"
#include "fault_throw.h"
#include "io.h"
#include "link_linux.h"
#include "netns_linux.h"
#include "socket_linux.h"
#include "tun_linux.h"

#define ARGUMENTS_MAX 4

static size_t arguments_of(napi_env env, napi_callback_info info, napi_value *arguments) {
  size_t count = ARGUMENTS_MAX;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  return count;
}

static napi_value int_value(napi_env env, int number) {
  napi_value value = NULL;
  napi_create_int32(env, number, &value);
  return value;
}

static napi_value bool_value(napi_env env, bool truth) {
  napi_value value = NULL;
  napi_get_boolean(env, truth, &value);
  return value;
}

static napi_value string_value(napi_env env, const char *text) {
  napi_value value = NULL;
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value);
  return value;
}

static napi_value throw_type(napi_env env, const char *message) {
  napi_throw_type_error(env, NULL, message);
  return NULL;
}

/** The named option in `out`; false when it is absent or undefined. */
static bool option(napi_env env, napi_value options, const char *name, napi_value *out) {
  napi_valuetype type = napi_undefined;
  return napi_get_named_property(env, options, name, out) == napi_ok && napi_typeof(env, *out, &type) == napi_ok &&
         type != napi_undefined;
}

/** Copies a string with its end; false when it is none, holds a NUL, or has no room in `size` bytes. */
static bool take_string(napi_env env, napi_value value, char *out, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok || length >= size) return false;
  napi_get_value_string_utf8(env, value, out, size, &length);
  return strlen(out) == length;
}

/** An absent option leaves `out`. */
static bool take_int(napi_env env, napi_value options, const char *name, int32_t *out) {
  napi_value value;
  return !option(env, options, name, &value) || napi_get_value_int32(env, value, out) == napi_ok;
}

static bool take_bool(napi_env env, napi_value options, const char *name, bool *out) {
  napi_value value;
  return !option(env, options, name, &value) || napi_get_value_bool(env, value, out) == napi_ok;
}

/** A name that has no room is cut to one that is not valid, so that tun_name_valid() says the word. */
static bool take_name(napi_env env, napi_value options, char *out) {
  napi_value value;
  if (!option(env, options, "name", &value)) return true;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_string) return false;
  if (!take_string(env, value, out, TUN_NAME_BYTES)) strcpy(out, "/");
  return true;
}

static napi_value tun_open_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX], result;
  struct tun tun = {.given_fd = -1, .fd = -1};
  int32_t pid = 0;
  arguments_of(env, info, arguments);
  if (!take_name(env, arguments[0], tun.name) || !take_int(env, arguments[0], "fd", &tun.given_fd) ||
      !take_int(env, arguments[0], "pid", &pid) || !take_bool(env, arguments[0], "offload", &tun.offload) ||
      !take_bool(env, arguments[0], "multiQueue", &tun.multi_queue))
    return throw_type(env, "tunOpen({ name?: string, fd?: number, offload: boolean, multiQueue: boolean, pid?: number })");
  if (pid == 0)
    tun_open(&tun);
  else if (netns_run(pid, tun_open, &tun, sizeof tun, &tun.fd, &tun.fault) < 0)
    tun.fd = -1;
  if (tun.fd < 0) return fault_throw(env, &tun.fault);
  if (environment_own(environment_of(env), tun.fd) < 0) {
    fault_set(&tun.fault, ENOMEM, "tunOpen", "");
    return fault_throw(env, &tun.fault);
  }
  if (napi_create_object(env, &result) != napi_ok) return NULL;
  napi_set_named_property(env, result, "fd", int_value(env, tun.fd));
  napi_set_named_property(env, result, "name", string_value(env, tun.name));
  napi_set_named_property(env, result, "vnetHdr", bool_value(env, tun.vnet_hdr));
  napi_set_named_property(env, result, "uso", bool_value(env, tun.uso));
  napi_set_named_property(env, result, "created", bool_value(env, tun.created));
  napi_set_named_property(env, result, "mtu", int_value(env, tun.mtu));
  napi_set_named_property(env, result, "queues", int_value(env, tun.queues));
  return result;
}

/** false with link->fault when an address is none, or one too many. */
static bool take_addresses(napi_env env, napi_value options, struct link *link) {
  napi_value list, item;
  uint32_t count = 0;
  if (!option(env, options, "addresses", &list)) return true;
  fault_set(&link->fault, EINVAL, "linkConfigure", "Addresses are written as 198.18.0.1/15 or fd00::1/64, 32 at most.");
  if (napi_get_array_length(env, list, &count) != napi_ok || count > LINK_ADDRESSES_MAX) return false;
  for (uint32_t at = 0; at < count; at++) {
    char text[64];
    if (napi_get_element(env, list, at, &item) != napi_ok || !take_string(env, item, text, sizeof text) ||
        !link_parse_address(text, &link->addresses[at]))
      return false;
  }
  link->address_count = count;
  link->fault = (struct fault){0};
  return true;
}

static napi_value link_configure_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  struct link link = {0};
  int32_t pid = 0, mtu = 0, queue_packets = 0;
  arguments_of(env, info, arguments);
  if (!take_name(env, arguments[0], link.name) || !take_int(env, arguments[0], "mtu", &mtu) ||
      !take_int(env, arguments[0], "queuePackets", &queue_packets) || !take_int(env, arguments[0], "pid", &pid) ||
      !take_bool(env, arguments[0], "up", &link.up))
    return throw_type(env, "linkConfigure({ name: string, mtu: number, addresses: string[], up: boolean, "
                           "queuePackets?: number, pid?: number })");
  if (!take_addresses(env, arguments[0], &link)) return fault_throw(env, &link.fault);
  link.mtu = (uint32_t)mtu;
  link.queue_packets = (uint32_t)queue_packets;
  if (pid == 0)
    link_configure(&link);
  else if (netns_run(pid, link_configure, &link, sizeof link, NULL, &link.fault) < 0)
    return fault_throw(env, &link.fault);
  return link.fault.error == 0 ? NULL : fault_throw(env, &link.fault);
}

static napi_value link_exists_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  char name[TUN_NAME_BYTES];
  arguments_of(env, info, arguments);
  return bool_value(env, take_string(env, arguments[0], name, sizeof name) && link_exists(name));
}

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

static napi_value open_descriptors_function(napi_env env, napi_callback_info info) {
  (void)info;
  return int_value(env, (int)environment_descriptors(environment_of(env)));
}

static napi_value errno_name_function(napi_env env, napi_callback_info info) {
  napi_value arguments[ARGUMENTS_MAX];
  char number[16];
  int32_t error = 0;
  arguments_of(env, info, arguments);
  if (napi_get_value_int32(env, arguments[0], &error) != napi_ok) return throw_type(env, "errnoName(errno: number)");
  const char *name = errno_name(error);
  snprintf(number, sizeof number, "E%u", error < 0 ? 0u - (unsigned)error : (unsigned)error);
  return string_value(env, name == NULL ? number : name);
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"tunOpen", tun_open_function},
      {"linkConfigure", link_configure_function},
      {"linkExists", link_exists_function},
      {"connectTcp", connect_tcp_function},
      {"connectUnix", connect_unix_function},
      {"connectUdp", connect_udp_function},
      {"openUdp", open_udp_function},
      {"socketPair", socket_pair_function},
      {"readBytes", read_bytes_function},
      {"writeBytes", write_bytes_function},
      {"socketError", socket_error_function},
      {"shutdownWrite", shutdown_write_function},
      {"close", close_function},
      {"openDescriptors", open_descriptors_function},
      {"errnoName", errno_name_function},
  };
  if (environment_create(env) == NULL) {
    napi_throw_error(env, NULL, "tungate.node: out of memory");
    return NULL;
  }
  for (size_t at = 0; at < sizeof functions / sizeof *functions; at++) {
    napi_value function = NULL;
    napi_create_function(env, functions[at].name, NAPI_AUTO_LENGTH, functions[at].function, NULL, &function);
    napi_set_named_property(env, exports, functions[at].name, function);
  }
  napi_value constructor = io_define(env);
  if (constructor != NULL) napi_set_named_property(env, exports, "Io", constructor);
  return exports;
}
