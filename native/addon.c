/*
 * The module: what src/io/addon.ts declares, translated to the files that know the kernel (*_linux.c) and back.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "environment.h"
#include "fault_throw.h"
#include "io.h"
#include "link_linux.h"
#include "netns_linux.h"
#include "sockets.h"
#include "tun_linux.h"

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
  sockets_define(env, exports);
  napi_value constructor = io_define(env);
  if (constructor != NULL) napi_set_named_property(env, exports, "Io", constructor);
  return exports;
}
