#include "io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#include "datagram_linux.h"
#include "fault_throw.h"
#include "memory.h"
#include "socket_linux.h"
#include "tun_linux.h"

/** Rows of one batch of events at most, whatever the length of `ready`. */
#define EVENTS_MAX 1024
/** A full batch is followed at once by as many more batches; the rest waits for the next turn of the loop. */
#define BATCHES_PER_TURN 2
#define ARGUMENTS_MAX 5

struct io {
  struct environment *environment;
  struct io *next, **link;
  /** Who may still touch this: the JavaScript object, each of its methods, and the uv handle until its close callback. */
  unsigned references;
  /** -1 when closed. */
  int epoll;
  /** On the heap: libuv alone knows the size of its handle in the running node. */
  uv_poll_t *poll;
  struct memory memory;
  struct segmenting segmenting;
  int32_t *ready;
  uint32_t ready_rows;
  napi_ref self, memory_reference, ready_reference, callback;
  napi_async_context context;
};

static void release(struct io *io) {
  if (--io->references > 0) return;
  environment_release(io->environment);
  free(io);
}

static void on_poll_closed(uv_handle_t *handle) {
  struct io *io = handle->data;
  struct environment *environment = io->environment;
  environment_retain(environment);
  free(handle);
  release(io);
  environment_handle_closed(environment);
  environment_release(environment);
}

void io_close(struct io *io) {
  if (io->epoll < 0) return;
  napi_env env = io->environment->env;
  *io->link = io->next;
  if (io->next != NULL) io->next->link = io->link;
  uv_close((uv_handle_t *)io->poll, on_poll_closed);
  close(io->epoll);
  io->epoll = -1;
  io->memory = (struct memory){0};
  io->ready_rows = 0;
  napi_delete_reference(env, io->memory_reference);
  napi_delete_reference(env, io->ready_reference);
  napi_delete_reference(env, io->callback);
  napi_async_destroy(env, io->context);
  napi_delete_reference(env, io->self);
}

static void on_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  release(data);
}

/** An exception of the callback is that of nobody's call: it becomes an 'uncaughtException'. */
static void raise_pending(napi_env env) {
  bool pending = false;
  napi_value error;
  if (napi_is_exception_pending(env, &pending) != napi_ok || !pending) return;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

static void call_ready(struct io *io, int count) {
  napi_env env = io->environment->env;
  napi_handle_scope scope;
  napi_value self, callback, argument;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (napi_get_reference_value(env, io->self, &self) == napi_ok &&
      napi_get_reference_value(env, io->callback, &callback) == napi_ok &&
      napi_create_int32(env, count, &argument) == napi_ok &&
      napi_make_callback(env, io->context, self, callback, 1, &argument, NULL) != napi_ok)
    raise_pending(env);
  napi_close_handle_scope(env, scope);
}

static void on_readable(uv_poll_t *handle, int status, int unused) {
  (void)status;
  (void)unused;
  struct io *io = handle->data;
  struct epoll_event events[EVENTS_MAX];
  for (int batch = 0; batch < BATCHES_PER_TURN && io->epoll >= 0; batch++) {
    int rows = (int)io->ready_rows;
    int count = epoll_wait(io->epoll, events, rows, 0);
    if (count <= 0) return;
    for (int at = 0; at < count; at++) {
      io->ready[2 * at] = (int32_t)events[at].data.u32;
      io->ready[2 * at + 1] = (int32_t)events[at].events;
    }
    call_ready(io, count);
    if (count < rows) return;
  }
}

/** The epoll and the handle. 0 or a negative errno; on failure nothing stays open. */
static int open_poll(struct io *io, uv_loop_t *loop) {
  io->poll = malloc(uv_handle_size(UV_POLL));
  if (io->poll == NULL) return -ENOMEM;
  io->epoll = epoll_create1(EPOLL_CLOEXEC);
  int error = io->epoll < 0 ? -errno : uv_poll_init(loop, io->poll, io->epoll);
  if (error < 0) {
    if (io->epoll >= 0) close(io->epoll);
    io->epoll = -1;
    free(io->poll);
    return error;
  }
  io->poll->data = io;
  environment_handle_opened(io->environment);
  io->references++;
  uv_poll_start(io->poll, UV_READABLE, on_readable);
  return 0;
}

static bool take_arguments(napi_env env, struct io *io, napi_value *arguments) {
  napi_typedarray_type type;
  napi_valuetype callback;
  size_t length;
  void *base, *ready;
  bool is_array = false;
  if (napi_is_typedarray(env, arguments[1], &is_array) != napi_ok || !is_array) return false;
  if (napi_get_arraybuffer_info(env, arguments[0], &base, &io->memory.length) != napi_ok) return false;
  if (napi_get_typedarray_info(env, arguments[1], &type, &length, &ready, NULL, NULL) != napi_ok) return false;
  if (napi_typeof(env, arguments[2], &callback) != napi_ok) return false;
  io->memory.base = base;
  io->ready = ready;
  io->ready_rows = length / 2 < EVENTS_MAX ? (uint32_t)(length / 2) : EVENTS_MAX;
  return type == napi_int32_array && io->ready_rows > 0 && callback == napi_function;
}

static bool take_references(napi_env env, struct io *io, napi_value self, napi_value *arguments) {
  napi_value name;
  return napi_create_reference(env, arguments[0], 1, &io->memory_reference) == napi_ok &&
         napi_create_reference(env, arguments[1], 1, &io->ready_reference) == napi_ok &&
         napi_create_reference(env, arguments[2], 1, &io->callback) == napi_ok &&
         napi_create_reference(env, self, 1, &io->self) == napi_ok &&
         napi_create_string_utf8(env, "tungate:io", NAPI_AUTO_LENGTH, &name) == napi_ok &&
         napi_async_init(env, NULL, name, &io->context) == napi_ok;
}

/**
 * The Io of a call and its `count` numbers; what is no number becomes 0xffffffff, which no descriptor and no offset is.
 * NULL when the Io is closed.
 */
static struct io *enter(napi_env env, napi_callback_info info, uint32_t *numbers, size_t count) {
  napi_value arguments[ARGUMENTS_MAX];
  size_t given = ARGUMENTS_MAX;
  void *data;
  if (napi_get_cb_info(env, info, &given, arguments, NULL, &data) != napi_ok) return NULL;
  for (size_t at = 0; at < count; at++)
    if (napi_get_value_uint32(env, arguments[at], &numbers[at]) != napi_ok) numbers[at] = UINT32_MAX;
  struct io *io = data;
  return io->epoll < 0 ? NULL : io;
}

static napi_value leave(napi_env env, int result) {
  napi_value value = NULL;
  napi_create_int32(env, result, &value);
  return value;
}

static napi_value watch(napi_env env, napi_callback_info info) {
  uint32_t a[2];
  napi_value arguments[3];
  size_t count = 3;
  bool edge = false;
  struct io *io = enter(env, info, a, 2);
  if (io == NULL) return leave(env, -EBADF);
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_bool(env, arguments[2], &edge) != napi_ok) return leave(env, -EINVAL);
  struct epoll_event event = {
      .events = edge ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN,
      .data.u32 = a[1],
  };
  return leave(env, epoll_ctl(io->epoll, EPOLL_CTL_ADD, (int)a[0], &event) < 0 ? -errno : 0);
}

static napi_value unwatch(napi_env env, napi_callback_info info) {
  uint32_t a[1];
  struct io *io = enter(env, info, a, 1);
  if (io == NULL) return leave(env, -EBADF);
  return leave(env, epoll_ctl(io->epoll, EPOLL_CTL_DEL, (int)a[0], NULL) < 0 ? -errno : 0);
}

/** A table of slots or of messages: (fd, and three numbers). */
static napi_value move_batch(napi_env env, napi_callback_info info,
                             int (*move)(const struct memory *, int, uint32_t, uint32_t, uint32_t)) {
  uint32_t a[4];
  struct io *io = enter(env, info, a, 4);
  return leave(env, io == NULL ? -EBADF : move(&io->memory, (int)a[0], a[1], a[2], a[3]));
}

/** A table of iovecs: (fd, and two numbers). */
static napi_value move_stream(napi_env env, napi_callback_info info,
                              int (*move)(const struct memory *, int, uint32_t, uint32_t)) {
  uint32_t a[3];
  struct io *io = enter(env, info, a, 3);
  return leave(env, io == NULL ? -EBADF : move(&io->memory, (int)a[0], a[1], a[2]));
}

static napi_value read_packets(napi_env env, napi_callback_info info) { return move_batch(env, info, tun_read); }
static napi_value write_packets(napi_env env, napi_callback_info info) { return move_batch(env, info, tun_write); }
static napi_value read_stream(napi_env env, napi_callback_info info) { return move_stream(env, info, socket_read); }
static napi_value write_stream(napi_env env, napi_callback_info info) { return move_stream(env, info, socket_write); }

static napi_value receive_with(napi_env env, napi_callback_info info,
                               int (*receive)(const struct memory *, int, uint32_t, uint32_t, uint32_t, uint32_t)) {
  uint32_t a[5];
  struct io *io = enter(env, info, a, 5);
  return leave(env, io == NULL ? -EBADF : receive(&io->memory, (int)a[0], a[1], a[2], a[3], a[4]));
}

static napi_value send_with(napi_env env, napi_callback_info info,
                            int (*send)(const struct memory *, int, uint32_t, uint32_t, uint32_t, struct segmenting *)) {
  uint32_t a[4];
  struct io *io = enter(env, info, a, 4);
  return leave(env, io == NULL ? -EBADF : send(&io->memory, (int)a[0], a[1], a[2], a[3], &io->segmenting));
}

static napi_value recv_datagrams(napi_env env, napi_callback_info info) { return receive_with(env, info, datagram_receive); }
static napi_value send_datagrams(napi_env env, napi_callback_info info) { return send_with(env, info, datagram_send); }
static napi_value recv_datagrams_from(napi_env env, napi_callback_info info) {
  return receive_with(env, info, datagram_receive_from);
}
static napi_value send_datagrams_to(napi_env env, napi_callback_info info) {
  return send_with(env, info, datagram_send_to);
}

static napi_value discard(napi_env env, napi_callback_info info) {
  uint32_t a[2];
  struct io *io = enter(env, info, a, 2);
  return leave(env, io == NULL ? -EBADF : memory_discard(&io->memory, a[0], a[1]));
}

static napi_value close_method(napi_env env, napi_callback_info info) {
  struct io *io = enter(env, info, NULL, 0);
  if (io != NULL) io_close(io);
  return NULL;
}

/** Methods of one object, not of its class: so a call finds its Io without a look into the object. */
static bool give_methods(napi_env env, struct io *io, napi_value self) {
  static const struct {
    const char *name;
    napi_callback method;
  } methods[] = {
      {"watch", watch},
      {"unwatch", unwatch},
      {"readPackets", read_packets},
      {"writePackets", write_packets},
      {"readv", read_stream},
      {"writev", write_stream},
      {"recvDatagrams", recv_datagrams},
      {"sendDatagrams", send_datagrams},
      {"recvDatagramsFrom", recv_datagrams_from},
      {"sendDatagramsTo", send_datagrams_to},
      {"discard", discard},
      {"close", close_method},
  };
  for (size_t at = 0; at < sizeof methods / sizeof *methods; at++) {
    napi_value function;
    if (napi_create_function(env, methods[at].name, NAPI_AUTO_LENGTH, methods[at].method, io, &function) != napi_ok ||
        napi_add_finalizer(env, function, io, on_finalize, NULL, NULL) != napi_ok)
      return false;
    io->references++;
    if (napi_set_named_property(env, self, methods[at].name, function) != napi_ok) return false;
  }
  return true;
}

static napi_value construct(napi_env env, napi_callback_info info) {
  napi_value self, target, arguments[3];
  size_t count = 3;
  uv_loop_t *loop;
  struct environment *environment = environment_of(env);
  napi_get_cb_info(env, info, &count, arguments, &self, NULL);
  if (napi_get_new_target(env, info, &target) != napi_ok || target == NULL || environment->ending) {
    napi_throw_type_error(env, NULL, "Io is a class: use new");
    return NULL;
  }
  struct io *io = calloc(1, sizeof *io);
  if (io == NULL || !take_arguments(env, io, arguments)) {
    free(io);
    napi_throw_type_error(env, NULL, "new Io(memory: ArrayBuffer, ready: Int32Array, onReady: function)");
    return NULL;
  }
  io->epoll = -1;
  io->environment = environment;
  io->references = 1;
  environment_retain(environment);
  if (napi_wrap(env, self, io, on_finalize, NULL, NULL) != napi_ok) {
    release(io);
    return NULL;
  }
  int error = napi_get_uv_event_loop(env, &loop) == napi_ok ? open_poll(io, loop) : -EINVAL;
  if (error < 0) {
    struct fault fault;
    fault_set(&fault, -error, "epoll_create1", error == -EMFILE ? "The process may open no more files." : "");
    return fault_throw(env, &fault);
  }
  io->link = &environment->ios;
  io->next = environment->ios;
  if (io->next != NULL) io->next->link = &io->next;
  environment->ios = io;
  if (!take_references(env, io, self, arguments) || !give_methods(env, io, self)) io_close(io);
  return self;
}

napi_value io_define(napi_env env) {
  napi_value constructor = NULL;
  napi_define_class(env, "Io", NAPI_AUTO_LENGTH, construct, NULL, 0, NULL, &constructor);
  return constructor;
}
