#include "fault_throw.h"

#include <stdio.h>
#include <string.h>

static napi_value text(napi_env env, const char *value) {
  napi_value result = NULL;
  napi_create_string_utf8(env, value, NAPI_AUTO_LENGTH, &result);
  return result;
}

napi_value fault_throw(napi_env env, const struct fault *fault) {
  char message[512], reason[96], number[16];
  const char *code = errno_name(fault->error);
  if (code == NULL) {
    snprintf(number, sizeof number, "E%d", fault->error);
    code = number;
  }
  snprintf(message, sizeof message, "%s: %s (%s)%s%s", fault->syscall, code,
           strerror_r(fault->error, reason, sizeof reason), *fault->advice ? ". " : "", fault->advice);
  napi_value error = NULL, positive = NULL;
  if (napi_create_error(env, text(env, code), text(env, message), &error) != napi_ok) return NULL;
  napi_create_int32(env, fault->error, &positive);
  napi_set_named_property(env, error, "errno", positive);
  napi_set_named_property(env, error, "syscall", text(env, fault->syscall));
  napi_throw(env, error);
  return NULL;
}
