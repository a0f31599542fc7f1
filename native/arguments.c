#include "arguments.h"

#include <string.h>

size_t arguments_of(napi_env env, napi_callback_info info, napi_value *arguments) {
  size_t count = ARGUMENTS_MAX;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  return count;
}

napi_value int_value(napi_env env, int number) {
  napi_value value = NULL;
  napi_create_int32(env, number, &value);
  return value;
}

bool take_string(napi_env env, napi_value value, char *out, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok || length >= size) return false;
  napi_get_value_string_utf8(env, value, out, size, &length);
  return strlen(out) == length;
}
