/* A fault as an exception of JavaScript; fault.h itself knows nothing of Node. */
#ifndef TUNGATE_FAULT_THROW_H
#define TUNGATE_FAULT_THROW_H

#include <node_api.h>

#include "fault.h"

/** `code`, `errno`, `syscall` as Node's own system errors have them. Returns NULL, with the exception pending. */
napi_value fault_throw(napi_env env, const struct fault *fault);

#endif
